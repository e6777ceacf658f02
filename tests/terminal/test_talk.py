"""`fastws connect URL`, at a terminal and in a pipe."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import signal
import subprocess
import sys

import pytest

from fastws import http, ws

from ..kit import certificates
from ..kit.client import until, url, within
from ..kit.terminal import Terminal

pytestmark = pytest.mark.plain("--insecure has a test of its own")
COMMAND = (sys.executable, "-m", "fastws", "connect")


@http.base_path("/")
@ws.upgrade_path("/", subprotocols=["shout"])
class House:
    """Shouts; does what it is told."""

    def __init__(self) -> None:
        self.requests: list[http.Request] = []
        self.heard: list[str | bytes] = []
        self.connections: list[ws.Connection] = []
        self.closed: list[tuple[int, str]] = []

    @ws.on_upgrade
    def check(self, request: http.Request) -> None:
        self.requests.append(request)

    @ws.on_open
    def came(self, connection: ws.Connection) -> None:
        self.connections.append(connection)

    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> str | None:
        self.heard.append(text)
        if not text.startswith("close "):
            return text.upper()
        connection.close(int(text[6:]), "as told\x1b[31m")
        return None

    @ws.on_binary_message
    def sent(self, data: bytes) -> bytes:
        self.heard.append(data)
        return data[::-1]

    @ws.on_close
    def left(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


@pytest.fixture
async def house(serve):
    service = House()
    service.url = url(await serve(service))
    return service


@pytest.fixture
async def at_terminal(house):
    """Run the command at a terminal: `terminal = await at_terminal("--ping")`."""
    terminals = []

    async def run(*arguments: str, **environment: str) -> Terminal:
        terminals.append(await Terminal.run(*COMMAND, house.url, *arguments, **environment))
        await terminals[-1].shows("connected to ")
        await terminals[-1].shows(">")
        return terminals[-1]

    yield run
    for terminal in terminals:
        terminal.close()
    await until(lambda: len(house.closed) == len(house.connections))


async def piped(*arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
    """Run the command in a pipe; returns status, output and what it told."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await within(process.communicate(given))
    return process.returncode, out, err.decode()


# --- At a terminal.


async def test_lines_go_out_and_messages_come_in(house, at_terminal):
    terminal = await at_terminal(NO_COLOR="1")
    await terminal.says("hello", "< HELLO")
    house.connections[0].push_text("by itself")
    await terminal.shows("< by itself")
    terminal.type("\x04")
    await terminal.shows("* closed with 1000")
    assert await terminal.ends() == 0
    assert house.closed == [(1000, "")]


async def test_a_line_that_is_being_typed_stays_when_a_message_comes(house, at_terminal):
    terminal = await at_terminal(NO_COLOR="1")
    terminal.type("hal")
    await terminal.shows("hal")
    house.connections[0].push_text("meanwhile")
    shown = await terminal.shows("meanwhile")
    assert "\x1b7" in shown  # the cursor is kept
    await terminal.shows("\x1b8")  # and taken back to the line
    terminal.type("lo\n")
    await terminal.shows("< HALLO")
    assert house.heard == ["hallo"]


async def test_direction_and_kind_are_coloured(house, at_terminal):
    terminal = await at_terminal()
    assert "\x1b[32m>" in terminal.shown
    terminal.type("hello\n")
    await terminal.shows("\x1b[36m<\x1b[0m HELLO")
    house.connections[0].push_binary(b"\x01hi")
    await terminal.shows("\x1b[35mbinary, 3 bytes\x1b[0m")
    await terminal.shows("01 68 69")
    terminal.type("/nonsense\n")
    await terminal.shows("\x1b[31m!")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
async def test_who_wants_no_colours_gets_none(house, at_terminal, environment):
    terminal = await at_terminal(**environment)
    terminal.type("hello\n")
    await terminal.shows("< HELLO")
    assert "\x1b[3" not in terminal.shown


async def test_json_is_shown_in_lines(house, at_terminal):
    terminal = await at_terminal(NO_COLOR="1")
    house.connections[0].push_text('{"a long name": "a long value", "another long name": [1, "and so on"]}')
    await terminal.shows("< {\r\n\x1b8")
    await terminal.shows('  "a long name": "a long value",')
    await terminal.shows('    "and so on"')


async def test_a_message_cannot_command_the_terminal(house, at_terminal):
    terminal = await at_terminal(NO_COLOR="1")
    house.connections[0].push_text("\x1b]0;owned\x07")
    await terminal.shows(r"< \x1b]0;owned\x07")


async def test_commands_ping_help_and_close(house, at_terminal):
    terminal = await at_terminal(NO_COLOR="1")
    terminal.type("/ping\n")
    await terminal.shows("* pong after ")
    terminal.type("/help\n")
    await terminal.shows("//TEXT")
    terminal.type("/nonsense\n")
    await terminal.shows("! there is no command '/nonsense'")
    terminal.type("//slash\n")
    await terminal.shows("< /SLASH")
    terminal.type("/close 4000 good night\n")
    await terminal.shows("* closed with 4000")
    assert await terminal.ends() == 0
    assert house.closed == [(4000, "good night")]


async def test_the_line_before_comes_back_with_a_key(house, at_terminal):
    terminal = await at_terminal(NO_COLOR="1")
    await terminal.says("once", "< ONCE")
    terminal.type("\x1b[A")  # up
    await terminal.shows("once")
    terminal.type(" more\n")
    await terminal.shows("< ONCE MORE")


@pytest.mark.parametrize(("code", "status"), [(1000, 0), (1001, 0), (1008, 3), (4000, 3)])
async def test_the_end_of_the_connection_ends_a_line_that_is_awaited(house, at_terminal, code, status):
    terminal = await at_terminal(NO_COLOR="1")
    terminal.type("half a line")
    await terminal.shows("half a line")
    house.connections[0].close(code, "as told\x1b[31m")
    await terminal.shows(rf"* closed with {code}: as told\x1b[31m")
    assert await terminal.ends() == status


async def test_ctrl_c_closes_and_is_told_apart(house, at_terminal):
    terminal = await at_terminal(NO_COLOR="1")
    terminal.type("half a line")
    await terminal.shows("half a line")
    await terminal.interrupt("* closed with 1000")
    assert await terminal.ends() == 130
    assert house.closed == [(1000, "")]


async def test_pings_are_shown_all_the_time(house, at_terminal):
    terminal = await at_terminal("--ping", "0.01", NO_COLOR="1")
    for _ in range(3):
        await terminal.shows("* pong after ")


async def test_typed_lines_may_be_binary_messages(house, at_terminal):
    terminal = await at_terminal("--binary", "--once", NO_COLOR="1")
    terminal.type("abc\n")
    await terminal.shows("< binary, 3 bytes")
    assert await terminal.ends() == 0
    assert house.heard == [b"abc"]


# --- In a pipe.


async def test_a_pipe_gets_messages_alone(house):
    status, out, err = await piped(house.url, given=b"one\ntwo\n\nlast")
    assert (status, out) == (0, b"ONE\nTWO\n\nLAST\n")
    assert err == f"connected to {house.url}, compression shared\nclosed with 1000\n"
    assert house.heard == ["one", "two", "", "last"]


async def test_once_ends_with_the_first_message(house):
    assert (await piped(house.url, "--once", given=b"hi\n"))[:2] == (0, b"HI\n")


async def test_lines_of_a_pipe_are_no_commands(house):
    assert (await piped(house.url, given=b"/close 4000\n"))[:2] == (0, b"/CLOSE 4000\n")


async def test_bytes_of_a_pipe_are_sent_as_they_are(house):
    assert (await piped(house.url, "--binary", given=b"\xff\x00a\n"))[:2] == (0, b"a\x00\xff\n")


async def test_a_text_that_is_no_utf_8_is_an_error(house):
    status, _, err = await piped(house.url, given=b"ok\n\xff\n")
    assert status == 2
    assert "error: line 2 is not UTF-8; --binary sends it as it is" in err


@pytest.mark.parametrize(
    ("given", "arguments", "status"),
    [
        (b"close 1000\n", (), 0),
        (b"close 4000\n", (), 3),
        (b"close 1000\n", ("--once",), 3),
        (b"", (), 0),
    ],
)
async def test_the_status_says_how_it_ended(house, given, arguments, status):
    assert (await piped(house.url, *arguments, given=given))[0] == status


async def test_a_connection_that_is_lost_has_a_status_of_its_own():
    async def drop(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line.split()[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    where = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    status, _, err = await piped(where, given=b"hello\n")
    assert (status, err.splitlines()[-1]) == (4, "closed with 1006")
    server.close()


async def test_the_request_says_what_is_asked_for(house):
    status, _, err = await piped(
        house.url, "--header", "X-One: 1", "--header", "X-Two:2", "--subprotocol", "whisper", "--subprotocol", "shout",
        "--origin", "https://example.com",
    )  # fmt: skip
    headers = house.requests[0].headers
    assert (status, headers["x-one"], headers["x-two"]) == (0, "1", "2")
    assert headers["sec-websocket-protocol"] == "whisper, shout"
    assert headers["origin"] == "https://example.com"
    assert "subprotocol shout" in err


NOT_CONNECTED = [
    (("ws://127.0.0.1:1/",), 1, "error: cannot connect to 127.0.0.1:1: Connection refused"),
    (("ftp://a/",), 2, "error: url 'ftp://a/': its scheme is none of"),
    (("ws://a/", "--header", "X"), 2, "'X' is no header field; give NAME:VALUE"),
    (("ws://a/", "--header", "Upgrade: x"), 2, "the handshake says that itself"),
    (("ws://a/", "--ping", "0"), 2, "'0' is no number of seconds above 0"),
    (("ws://a/", "--subprotocol", "a b"), 2, "a subprotocol is a token"),
    ((), 2, "the following arguments are required: URL"),
]


@pytest.mark.parametrize(("arguments", "status", "words"), NOT_CONNECTED)
async def test_what_cannot_be_is_one_line_and_a_status(arguments, status, words):
    code, out, err = await piped(*arguments)
    assert (code, out) == (status, b"")
    assert words in err
    assert "Traceback" not in err


async def test_a_refusal_is_told(house):
    code, _, err = await piped(f"{house.url}nowhere")
    assert (code, err) == (1, "error: the server answers with status 404 instead of 101\n")


async def test_any_certificate_is_taken_where_that_is_asked_for(serve):
    where = url(await serve(House(), ssl=certificates.server_context()))
    code, _, err = await piped(where, given=b"hi\n")
    assert code == 1
    assert "certificate verify failed" in err
    assert (await piped(where, "--insecure", given=b"hi\n"))[:2] == (0, b"HI\n")


async def test_a_reader_that_goes_ends_it(house):
    process = subprocess.Popen([*COMMAND, house.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process, process.stdin, process.stdout as out:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert await within(asyncio.to_thread(out.readline)) == b"ONE\n"
        out.close()
        house.connections[0].push_text("two")
        assert await within(asyncio.to_thread(process.wait)) == 0
    assert house.closed == [(1000, "")]


async def test_ctrl_c_ends_a_pipe(house):
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*COMMAND, house.url, stdin=pipe, stdout=pipe, stderr=pipe)
    assert (await within(process.stderr.readline())).startswith(b"connected")
    process.send_signal(signal.SIGINT)
    assert await within(process.wait()) == 130
    process.stdin.close()


async def test_it_runs_without_standard_streams(house):
    process = await asyncio.create_subprocess_shell(f"{' '.join([*COMMAND, house.url])} <&- >&- 2>&-")
    assert await within(process.wait()) == 0
