"""Where a server listens, and what it does when there are no descriptors for those who come."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import os
import re
import resource
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import fastws
from fastws import ConfigurationError, http
from fastws.net import listening
from fastws.net.sockets import inherited_socket
from fastws.options import ServeOptions, ServerOptions

from ..kit.client import Client, open_connection, turns, until, within
from ..kit.services import Echo

# ---------------------------------------------------------------------------------------------------------------------
# TCP


async def test_a_name_of_several_addresses_is_listened_at_all_of_them(serve, dial):
    server = await serve(Echo(), host=None)
    assert {len(address) for address in server.addresses} <= {2, 4}
    for address in server.addresses:
        host = "127.0.0.1" if len(address) == 2 else "::1"
        client = await dial(server, host=host, port=address[1])
        await client.open()
        assert await client.asks("hello") == "hello"


async def test_an_address_that_is_not_ours_is_an_error(serve):
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the number says which)
        await serve(Echo(), host="192.0.2.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65536}, "port=65536: give a number from 0 to 65535"),
        ({"port": None}, "port=None: give a number from 0 to 65535"),
        ({"backlog": 0}, "backlog=0: give a whole number from 1"),
        ({"max_connections": 0}, "max_connections=0: give a whole number from 1"),
        ({"max_connections": 1.5}, "max_connections=1.5: give a whole number from 1"),
        ({"max_connections": True}, "max_connections=True: give a whole number from 1"),
        ({"max_total_backlog": 1 << 64}, f"max_total_backlog={1 << 64}: give a whole number from 1"),
        ({"close_timeout": True}, "close_timeout=True: give a number of seconds"),
        ({"fanout_threads": True}, "fanout_threads=True: give a whole number from 0"),
        ({"max_connections_per_address": 0}, "max_connections_per_address=0: give a whole number from 1, or None"),
        ({"max_handshakes": -1}, "max_handshakes=-1: give a whole number from 1"),
        ({"fanout_threads": -1}, "fanout_threads=-1: give a whole number from 0 to 15"),
        ({"fanout_threads": 16}, "fanout_threads=16: give a whole number from 0 to 15"),
        ({"handshake_timeout": 0}, "handshake_timeout=0: give a number of seconds above 0"),
        ({"close_timeout": float("inf")}, "close_timeout=inf: give a number of seconds above 0"),
        ({"keep_alive_timeout": "1"}, "keep_alive_timeout='1': give a number of seconds above 0"),
        ({"unix": ""}, "unix='': give the path of a socket"),
        ({"unix": "chat\0"}, "give the path of a socket"),
        ({"unix": "chat.sock", "unix_mode": 0o1777}, "unix_mode=1023: give a mode such as 0o660"),
        ({"ssl": True}, "ssl=True: give an ssl.SSLContext"),
        ({"keyfile": "key.pem"}, "keyfile needs a certfile beside it"),
        ({"client_ca": "ca.pem"}, "client_ca needs a certfile beside it"),
        ({"prot": 9090}, "there is no option 'prot'; there are host, port, "),
    ],
)
def test_an_option_that_is_wrong_is_named(options, message):
    with pytest.raises(ConfigurationError) as caught:
        fastws.serve(Echo, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("function", [fastws.serve, fastws.run])
def test_each_option_is_shown_with_its_default_and_its_type(function):
    shown = inspect.signature(function).parameters
    typed = {name: hint.__origin__ for name, hint in get_type_hints(ServeOptions, include_extras=True).items()}
    assert {name: shown[name].annotation for name in typed} == typed
    assert {name: shown[name].default for name in typed} == {name: getattr(ServerOptions, name) for name in typed}


def test_a_default_is_what_is_used():
    assert [name for name in ServeOptions.__annotations__ if name in vars(ServerOptions())] == []


def test_options_do_not_change():
    options = ServerOptions()
    with pytest.raises(AttributeError, match="port is decided already"):
        options.port = 1


def test_the_page_on_deployment_tells_the_defaults():
    page = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| ([\w.]+) \|", page, re.MULTILINE))
    assert len(told) == 14
    assert told == {name: str(getattr(ServerOptions, name)) for name in told}


def test_a_socket_and_a_path_are_two_places():
    with socket.socket() as sock, pytest.raises(ConfigurationError, match="sock and unix are two places"):
        fastws.serve(Echo, sock=sock, unix="chat.sock")


def test_a_socket_for_datagrams_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(ConfigurationError, match="a stream"):
        fastws.serve(Echo, sock=sock)


# ---------------------------------------------------------------------------------------------------------------------
# Unix sockets

PLAIN = pytest.mark.plain("clients here know TLS by the port")


@contextlib.asynccontextmanager
async def visitor(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    client = Client(*await within(asyncio.open_unix_connection(sock=sock)))
    await client.open()
    yield client
    client.transport.abort()


@PLAIN
async def test_a_path_is_listened_at_as_long_as_the_server_lives(serve, tmp_path):
    path = tmp_path / "chat.sock"
    echo = Echo()
    server = await serve(echo, unix=path)
    assert server.addresses == [str(path)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with visitor(path) as client:
        assert await client.asks("hello") == "hello"
        assert echo.connections[0].remote_address is None
    await within(server.close())
    assert not path.exists()


@PLAIN
async def test_the_mode_says_who_may_connect(serve, tmp_path):
    await serve(Echo(), unix=tmp_path / "chat.sock", unix_mode=0o666)
    assert stat.S_IMODE((tmp_path / "chat.sock").stat().st_mode) == 0o666


@PLAIN
async def test_a_socket_that_nobody_listens_at_is_replaced(serve, tmp_path):
    path = tmp_path / "chat.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    await serve(Echo(), unix=path)
    async with visitor(path) as client:
        assert await client.asks("hello") == "hello"


@PLAIN
async def test_a_socket_that_somebody_listens_at_stays_theirs(serve, tmp_path):
    path = tmp_path / "chat.sock"
    await serve(Echo(), unix=path)
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        await serve(Echo(), unix=path)
    async with visitor(path) as client:
        assert await client.asks("hello") == "hello"


@PLAIN
async def test_a_file_that_is_no_socket_is_left_alone(serve, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        await serve(Echo(), unix=path)
    assert path.read_text() == "mine"


@PLAIN
async def test_a_socket_that_another_server_has_put_in_our_place_stays(serve, tmp_path):
    path = tmp_path / "chat.sock"
    first = await serve(Echo(), unix=path)
    path.unlink()
    await serve(Echo(), unix=path)
    await within(first.close())
    async with visitor(path) as client:
        assert await client.asks("hello") == "hello"


@pytest.mark.parametrize("path", ["nowhere/chat.sock", "x" * 104])
async def test_a_path_that_cannot_be_is_an_error(serve, tmp_path, path):
    with pytest.raises(ConfigurationError, match="give a path of a folder that exists"):
        await serve(Echo(), unix=tmp_path / path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names without files")
async def test_an_abstract_socket_may_be_given(serve):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(f"\0fastws-{os.getpid()}")
    server = await serve(Echo(), sock=sock, ssl=None)
    assert server.addresses == [f"@fastws-{os.getpid()}"]
    async with visitor(f"\0fastws-{os.getpid()}") as client:
        assert await client.asks("hello") == "hello"


# ---------------------------------------------------------------------------------------------------------------------
# Inherited sockets


def test_a_listening_socket_is_inherited():
    with socket.create_server(("127.0.0.1", 0)) as parent, inherited_socket(os.dup(parent.fileno())) as sock:
        assert sock.getsockname() == parent.getsockname()


def test_what_does_not_listen_is_not_inherited_and_stays_open(tmp_path):
    with socket.socket() as idle, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for sock in (idle, datagrams):
            with pytest.raises(ConfigurationError, match="it is no stream socket that listens"):
                inherited_socket(sock.fileno())
            os.fstat(sock.fileno())
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigurationError, match="it is no socket"):
        inherited_socket(file.fileno())
    with pytest.raises(ConfigurationError, match="cannot listen at descriptor 9999: it is not open"):
        inherited_socket(9999)


# ---------------------------------------------------------------------------------------------------------------------
# Shortage

CROWD = """
import asyncio, logging, resource, sys, time, fastws
from fastws import http, ws

logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")

@http.base_path("/")
@ws.upgrade_path("/")
class Greeter:
    @ws.on_text_message
    def text(self, text):
        # What the whole process has used until now, and a descriptor that the application needs
        with open(__file__ if "__file__" in globals() else sys.executable):
            return str(time.process_time()) if text == "time" else text

async def main(tls):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    fastws.net.listening.WATCH_INTERVAL = 0.1
    async with fastws.serve(Greeter, port=0, close_timeout=0.1, **tls) as server:
        print(server.addresses[0][1], flush=True)
        await server.serve_forever()
"""
RUNS = {
    "uvloop": "import uvloop; uvloop.run(main({}))",
    "asyncio": "asyncio.run(main({}))",
    "uvloop, PROXY": "import uvloop; uvloop.run(main({'proxy_protocol': True}))",
}


@pytest.fixture
async def crowded(request):
    """A server that may open 64 files, in a process of its own, and the clients that it has."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-c", CROWD + RUNS[request.param]]
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    clients: list[Client] = []
    try:
        yield process, int(await within(process.stdout.readline())), clients, "PROXY" in request.param
    finally:
        for client in clients:
            client.transport.abort()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await within(process.communicate())


@pytest.mark.parametrize("crowded", RUNS, indirect=True, ids=RUNS)
async def test_more_clients_than_descriptors_wait_and_are_served_when_others_leave(crowded):
    process, port, clients, behind_proxy = crowded
    for _ in range(100):
        clients.append(Client(*await within(asyncio.open_connection("127.0.0.1", port))))
        if behind_proxy:
            clients[-1].write(b"PROXY UNKNOWN\r\n")
    opened: asyncio.Queue[Client] = asyncio.Queue()
    opening = asyncio.gather(*[open_and_tell(client, opened) for client in clients])
    assert await within(process.stderr.readline()) == b"WARNING accepting pauses: open files are near their limit\n"
    guest = await within(opened.get())
    await until(lambda: opened.qsize() > 20)
    before = float(await guest.asks("time"))
    await asyncio.sleep(0.5)
    assert float(await guest.asks("time")) - before < 0.1
    assert opened.qsize() < 48
    for _ in clients[1:]:
        client = await within(opened.get())
        assert await client.asks("hello") == "hello"
        client.transport.abort()
    await within(opening)
    assert await within(process.stderr.readline()) == b"INFO accepting goes on\n"
    process.terminate()
    assert await within(process.stderr.read()) == b""


async def open_and_tell(client: Client, opened: asyncio.Queue[Client]) -> None:
    await client.open()
    opened.put_nowait(client)


async def test_a_pause_loses_nobody_and_is_said_once(serve, connect, monkeypatch, caplog):
    monkeypatch.setattr(listening, "WATCH_INTERVAL", 0.01)
    caplog.set_level("INFO", "fastws")
    server = await serve(Echo())
    client = await connect(server)
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (8, 8))
        await until(lambda: server._shutdown._listener._paused)
        connecting = asyncio.ensure_future(connect(server))
        await asyncio.sleep(0.05)
        assert await client.asks("hello") == "hello"
        assert not connecting.done()
    assert await (await within(connecting)).asks("at last") == "at last"
    await until(lambda: "accepting goes on" in caplog.messages)
    assert caplog.messages == ["accepting pauses: open files are near their limit", "accepting goes on"]


async def test_a_server_may_close_while_it_pauses(serve, monkeypatch):
    server = await serve(Echo())
    server._shutdown._listener._pause("a test wants it")
    server._shutdown._listener._pause("twice")
    await within(server.close())
    await turns()
    with pytest.raises(ConnectionError):
        await Client.connect(server.addresses[0][1])


async def test_an_error_of_accept_pauses_too(serve, connect, monkeypatch, caplog):
    monkeypatch.setattr(listening, "WATCH_INTERVAL", 0.01)
    server = await serve(Echo(), proxy_protocol=True)
    failing = [OSError(errno.ENFILE, "Too many open files in system")]

    def accept(listening):
        if failing:
            raise failing[0]
        raise BlockingIOError

    monkeypatch.setattr(listening, "accept_connection", accept)
    [sock] = server._shutdown._sockets.sockets
    server._shutdown._listener._accept(sock)
    assert server._shutdown._listener._paused
    assert caplog.messages == ["accepting pauses: [Errno 23] Too many open files in system"]
    await until(lambda: not server._shutdown._listener._paused)
    server._shutdown._listener._accept(sock)
    failing.clear()
    await until(lambda: not server._shutdown._listener._short)
    assert caplog.messages.count("accepting pauses: [Errno 23] Too many open files in system") == 1


@PLAIN
async def test_a_client_that_has_gone_before_it_is_accepted_is_nobody(serve):
    asked = []

    @http.base_path("/")
    class Pages:
        @http.get("/")
        def page(self, request: http.Request) -> str:
            asked.append(request.remote_address)
            return "hello"

    server = await serve(Pages(), proxy_headers="unix")
    with socket.create_connection(("127.0.0.1", server.addresses[0][1])) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reader, writer = await open_connection(server.addresses[0][1])
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await within(reader.read())).startswith(b"HTTP/1.1 200 ")
    assert asked == [writer.get_extra_info("sockname")[:2]]
    writer.close()


# ---------------------------------------------------------------------------------------------------------------------
# Its end


async def test_serving_for_ever_ends_with_the_server(serve):
    server = await serve(Echo())
    serving = asyncio.ensure_future(server.serve_forever())
    await turns()
    assert not serving.done()
    await within(server.close())
    await within(serving)
