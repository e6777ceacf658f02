"""What clients of other ecosystems do with a server of ours: a row for each, which docs/clients.md shows, too."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fastws import http, ws

from ..kit.client import url
from ..kit.services import Log, at
from .drivers import CACHE, HERE, Driver

MEBIBYTE = 1 << 20
REASON = "why " * 30 + "end"  # 123 bytes, as many as fit
BODY = "who are you?\n"
JSON = '{"symbol": "FASTWS", "price": 99.5, "currency": "€", "note": "grüße ☃ 🐈"}'
PATIENCE = 6  # seconds for three messages and a broadcast
CODES = (1001, 1011, 1012, 1013, 3000, 4999)
JARS = Path("/usr/share/java")
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


# ---------------------------------------------------------------------------------------------------------------------
# What is served


class Talk(Log):
    """Echoes, broadcasts and closes as its client asks it to."""

    @ws.on_text_message
    def text(self, connection: ws.Connection, text: str) -> str | None:
        command, _, rest = text.partition(" ")
        if command == "offers":
            return connection.headers.get("sec-websocket-extensions", "nothing")
        if command == "broadcast":
            for number in range(3):
                ws.broadcast_text(f"{number} {JSON * 60}")
        elif command == "close":
            connection.close(int(rest), REASON)
        else:
            return text
        return None

    @ws.on_binary_message
    def binary(self, data: bytes) -> bytes:
        return data

    @ws.on_close
    def closed(self, reason: str, received_code: int | None) -> None:
        self.saw(received_code, reason)


@at("/everything", compression_threshold=0)
class Everything(Talk):
    """Compresses each message, which everybody understands."""


@at("/shared")
class Shared(Talk):
    """Compresses each message that is worth it, on its own."""


@at("/dedicated", compression="dedicated")
class Dedicated(Talk):
    """Compresses with histories."""


@at("/pinging", ping_interval=0.05, ping_timeout=2, compression_threshold=0)
class Pinging:
    """Tells whom it pings that the pong came."""

    @ws.on_pong
    def answered(self) -> None:
        ws.push_text("answered")


@at("/refusing")
class Refusing:
    """Lets nobody in."""

    @ws.on_upgrade
    def refuse(self) -> None:
        raise http.Refuse(401, BODY, {"WWW-Authenticate": "Bearer"})


# ---------------------------------------------------------------------------------------------------------------------
# What is seen


class Row(NamedTuple):
    """What a client does; the defaults are what it should."""

    offers: str = "nothing"  # its Sec-WebSocket-Extensions
    shared: bool = True  # whether it goes on talking when only what is worth it is compressed, each message on its own
    dedicated: bool = True  # and when it is compressed with histories
    pongs: bool = True  # whether it answers pings while its program only waits for messages
    tells: tuple = CODES  # what it makes of these codes, with a reason of 123 bytes; None: it tells no code
    refusal: str = "body"  # what it tells of a refusal: its body, its status, or nothing
    says: tuple = (4000, "bye")  # what arrives of its own close frame


class Talker:
    """One client, and the server that it talks to."""

    def __init__(self, driver: Driver, server, talk: Talk) -> None:
        self.driver = driver
        self.server = server
        self.talk = talk

    async def row(self) -> Row:
        await self.connect("/everything")
        offers = await self.ask("offers")
        for message in ("", "grüße ☃", b"", b"\x00\xff\x80", "x" * MEBIBYTE, bytes(range(256)) * (MEBIBYTE // 256)):
            assert await self.ask(message) == message
        await self.driver.close(4000, "bye")
        return Row(
            offers=offers,
            says=await self.talk.next(),
            shared=await self.goes_on("/shared"),
            dedicated=await self.goes_on("/dedicated"),
            pongs=await self.pongs(),
            tells=tuple([await self.told(code) for code in CODES]),
            refusal=await self.refusal(),
        )

    async def connect(self, path: str) -> None:
        assert await self.driver.connect(url(self.server, path)) is None

    async def ask(self, message: str | bytes) -> str | bytes:
        await self.driver.send(message)
        event = await self.driver.receive()
        assert event[0] == ("text" if isinstance(message, str) else "binary"), event
        return event[1]

    async def goes_on(self, path: str) -> bool:
        """Whether messages come and go, also those that resemble each other."""
        try:
            return await asyncio.wait_for(self.talks(path), PATIENCE)
        except asyncio.TimeoutError:
            await self.driver.restart()  # one of them hangs for ever
            return False

    async def talks(self, path: str) -> bool:
        await self.connect(path)
        for message in ("short", JSON * 5, JSON * 6):
            await self.driver.send(message)
            event = await self.driver.receive()
            if event[0] != "text":
                return False
            assert event[1] == message
        await self.driver.send("broadcast")
        for number in range(3):
            assert await self.driver.receive() == ("text", f"{number} {JSON * 60}")
        await self.driver.close(1000, "")
        return True

    async def pongs(self) -> bool:
        await self.connect("/pinging")
        answered = await self.driver.receive() == ("text", "answered")
        if answered:
            await self.driver.close(1000, "")
        return answered

    async def told(self, code: int) -> int | None:
        """The code that the client tells of a close frame; with this one all of the reason."""
        await self.connect("/everything")
        await self.driver.send(f"close {code}")
        event = await self.driver.receive()
        if event[0] != "closed":
            return None
        assert event[1] != code or event[2] == REASON
        return event[1]

    async def refusal(self) -> str:
        refusal = await self.driver.connect(url(self.server, "/refusing"))
        assert refusal is not None
        status, body = refusal
        assert not body or body == BODY.encode()
        return "body" if body else "status" if status == "401" else "nothing"


# ---------------------------------------------------------------------------------------------------------------------
# Who is tried


class Client(NamedTuple):
    language: str
    name: str
    version: str
    expected: Row


DEFLATE = "permessage-deflate"
LIMITED = f"{DEFLATE}; client_max_window_bits"
FORGETFUL = f"{DEFLATE}; server_no_context_takeover; client_no_context_takeover"


def without(*told: int | None) -> tuple:
    """The codes as told, where 1012 and 1013 are not themselves."""
    return (1001, 1011, *told, 3000, 4999)


CLIENTS = [
    Client("Python", "websockets", "17.4", Row(LIMITED)),
    Client("Python", "websocket-client", "1.9.2", Row()),
    Client("Python", "aiohttp", "3.14.5", Row(refusal="status")),
    Client("Python", "aiohttp, compressing", "3.14.5", Row(LIMITED, refusal="status")),
    Client("Python", "autobahn", "26.10.2", Row(refusal="nothing")),
    Client("Python", "curl_cffi", "0.17.0", Row(pongs=False, refusal="nothing")),
    Client("Python", "httpx-ws", "0.9.0", Row(refusal="status")),
    Client("Python", "lomond", "0.3.4", Row(refusal="status")),
    Client(
        "Python",
        "niquests",
        "3.21.2",
        Row(
            f"{DEFLATE}; client_max_window_bits=15; server_max_window_bits=15",
            tells=(None,) * len(CODES),
            says=(None, "protocol error"),
        ),
    ),
    Client("Python", "picows", "2.3.1", Row()),
    Client("Python", "pycurl", "7.49.0", Row(pongs=False, refusal="status")),
    Client("Python", "simple-websocket", "1.1.0", Row(refusal="nothing")),
    Client("Python", "tornado", "6.6.1", Row()),
    Client("Python", "tornado, compressing", "6.6.1", Row(LIMITED, shared=False)),
    Client("Python", "trio-websocket", "0.12.2", Row()),
    Client("Python", "ws4py", "0.6.0", Row(tells=without(1005, 1005), refusal="nothing")),
    Client("Node", "ws", "8.23.0", Row(LIMITED)),
    Client("Node", "undici", "7.30.2", Row(LIMITED, refusal="nothing")),
    Client("Node", "faye-websocket", "0.11.4", Row(tells=without(1002, 1002), refusal="nothing")),
    Client("Node", "websocket", "1.0.35", Row()),
    Client("Node", "nodejs-websocket", "1.7.2", Row(refusal="nothing")),
    Client("Go", "gorilla", "1.5.0", Row()),
    Client("Go", "gorilla, compressing", "1.5.0", Row(FORGETFUL)),
    Client("Go", "nhooyr", "1.8.7", Row(f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover")),
    Client("Go", "x/net", "0.7.0", Row(tells=(None,) * len(CODES), refusal="nothing", says=(1000, ""))),
    Client("Java", "java.net.http", "17", Row()),
    Client("Java", "Jetty", "9.4.57", Row(refusal="status")),
    Client("Java", "Jetty, compressing", "9.4.57", Row(DEFLATE, refusal="status")),
    Client("Perl", "AnyEvent::WebSocket::Client", "0.54", Row(refusal="nothing")),
    Client("Perl", "Mojolicious", "9.31", Row()),
    Client("Perl", "Mojolicious, compressing", "9.31", Row(DEFLATE, shared=False)),
    Client("Ruby", "faye-websocket", "0.11.0", Row(tells=without(1002, 1002), refusal="nothing")),
    Client("Ruby", "websocket-driver", "0.6.3", Row(tells=without(1002, 1002), refusal="nothing")),
    Client("Tcl", "tcllib", "1.4.2", Row(refusal="nothing", says=(None, ""))),
    Client("C", "libwebsockets", "4.1.6", Row(tells=without(1002, 1002), refusal="nothing")),
    Client(
        "C",
        "libwebsockets, compressing",
        "4.1.6",
        Row(
            f"{DEFLATE}; client_no_context_takeover; client_max_window_bits",
            shared=False,
            dedicated=False,
            tells=without(1002, 1002),
            refusal="nothing",
        ),
    ),
    Client("Lua", "http", "0.4", Row(tells=without(None, None), refusal="nothing")),
]


def python(name: str) -> list | None:
    program = CACHE / "python" / "bin" / "python"
    return [program, HERE / "drive.py", name] if program.exists() else None


def node(name: str) -> list | None:
    modules = CACHE / "node" / "node_modules"
    return ["node", HERE / "drive.cjs", modules, name] if shutil.which("node") and (modules / name).is_dir() else None


def compiled(directory: str) -> Callable[[str], list | None]:
    program = CACHE / directory / "drive"
    return lambda name: [program, name] if program.exists() else None


def java(name: str) -> list | None:
    if shutil.which("javac") is None:
        return None
    if name == "java.net.http":
        return ["java", HERE / "Drive.java"]
    if not (JARS / "jetty9-websocket-client.jar").exists():
        return None
    jars = [*JARS.glob("jetty9-*.jar"), *JARS.glob("slf4j-[an]*.jar")]
    return ["java", "-cp", ":".join(map(str, jars)), HERE / "Jetty.java", name]


def script(program: str, file: str) -> Callable[[str], list | None]:
    return lambda name: [program, HERE / file, name] if shutil.which(program) else None


START: dict[str, Callable[[str], list | None]] = {
    "Python": python,
    "Node": node,
    "Go": compiled("go"),
    "C": compiled("c"),
    "Java": java,
    "Perl": script("perl", "drive.pl"),
    "Ruby": script("ruby", "drive.rb"),
    "Tcl": script("tclsh", "drive.tcl"),
    "Lua": script("lua5.1", "drive.lua"),
}


def shown(client: Client) -> str:
    """The row as docs/clients.md shows it."""
    row = client.expected
    parameters = row.offers.removeprefix(DEFLATE).lstrip("; ")
    restart = {(1012, 1013): "as sent", (None, None): "no code"}.get(row.tells[2:4], f"as {row.tells[2]}")
    says = {(4000, "bye"): "as given", (None, ""): "none", (1000, ""): "1000"}.get(row.says, "a wrong one")
    cells = [
        f"{client.language}: {client.name}",
        client.version,
        "no" if row.offers == "nothing" else f"`{parameters}`" if parameters else "plainly",
        "yes" if row.shared else "**no**",
        "yes" if row.dedicated else "**no**",
        "yes" if row.pongs else "**no**",
        "as sent" if any(row.tells) else "no code",
        restart,
        row.refusal,
        says,
    ]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: f"{client.language}-{client.name}")
def test_the_documentation_shows_its_row(client):
    assert f"\n{shown(client)}\n" in PAGE.read_text(encoding="utf-8")


def installed(client: Client) -> list:
    command = START[client.language](client.name)
    if command is None:
        pytest.skip(f"no clients for {client.language}: tools/clients.sh installs what it can")
    return command


@pytest.mark.plain("what other programs hold for trustworthy is their own affair")
@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: f"{client.language}-{client.name}")
async def test_a_client_does_what_its_row_tells(serve, client):
    command = installed(client)
    talk = Everything()
    server = await serve(talk, Shared, Dedicated, Pinging, Refusing, close_timeout=1)
    async with Driver(*command) as driver:
        if driver.version != client.version:
            pytest.skip(f"the row is that of {client.version}, and here is {driver.version or 'none'}")
        assert await Talker(driver, server, talk).row() == client.expected
