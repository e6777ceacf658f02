"""Nothing waits for the garbage collector: what a request or a message needed is gone when it has ended, however."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
import types
from collections import Counter

import pytest

import fastws
from fastws import http, ws
from fastws._speedups import live_objects

from ...kit.certificates import client_context, server_context
from ...kit.client import REQUEST, frame, until, within
from ...kit.services import at

COUNT = 5


class Payload:
    """What somebody holds on to in a handler."""


class Failure(Exception):
    """What a handler fails with."""


async def do(how: str | None) -> str:
    payload = Payload()
    if how == "fail":
        raise Failure
    if how == "refuse":
        raise http.Refuse(403)
    if how == "cancel":
        task = asyncio.ensure_future(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await task
    if how == "wait":
        await asyncio.Event().wait()
    return f"{type(payload).__name__}"


def do_now(how: str | None) -> str:
    with contextlib.closing(do(how)) as steps:
        try:
            steps.send(None)
        except StopIteration as end:
            return str(end.value)
    raise AssertionError(how)


@at()
class Everything:
    """Does in each kind of handler what the client asks for."""

    @ws.on_upgrade
    async def decide(self, request: http.Request) -> None:
        await asyncio.sleep(0)
        await do(request.query.get("upgrade"))

    @ws.on_open
    async def opened(self, connection: ws.Connection) -> None:
        await do(connection.query.get("open"))

    @ws.on_text_message
    async def text(self, text: str) -> str:
        await asyncio.sleep(0)
        return await do(text)

    @ws.on_binary_message
    def binary(self, data: bytes) -> str:
        return do_now(data.decode())

    @ws.on_error
    async def error(self, error: Exception) -> None:
        await asyncio.sleep(0)
        raise Failure

    @ws.on_close
    async def closed(self) -> None:
        await asyncio.sleep(0)
        raise Failure

    @http.post("/later")
    async def later(self, how: str) -> str:
        await asyncio.sleep(0)
        return await do(how)

    @http.post("/now")
    def now(self, how: str) -> str:
        return do_now(how)


async def say(port: int, *pieces: bytes, leave: bool = False) -> bytes:
    """All that a client gets who says this; on a bare socket, since streams need the collector themselves."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        heard = b""
        for piece in pieces:
            await loop.sock_sendall(sock, piece)
            if leave:
                await asyncio.sleep(0.01)
                return b""
        with contextlib.suppress(ConnectionError):
            while data := await within(loop.sock_recv(sock, 65536)):
                heard += data
        return heard


def post(path: str, how: str) -> bytes:
    return b"POST /%b?how=%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody" % (
        path.encode(),
        how.encode(),
    )


def opening(query: str = "") -> bytes:
    return REQUEST % (b"/" + query.encode(), b"")


CLOSE = frame(8, b"\x03\xe8")

TALKS: dict[str, tuple[bytes, ...]] = {
    **{f"{path} {how}": (post(path, how),) for path in ("now", "later") for how in ("do", "fail", "refuse")},
    "later cancel": (post("later", "cancel"),),
    "upgrade refuse": (opening("?upgrade=refuse"),),
    "upgrade fail": (opening("?upgrade=fail"),),
    "upgrade cancel": (opening("?upgrade=cancel"),),
    "open fail": (opening("?open=fail"), CLOSE),
    **{f"text {how}": (opening() + frame(1, how.encode()) + CLOSE,) for how in ("do", "fail", "cancel")},
    **{f"binary {how}": (opening() + frame(2, how.encode()) + CLOSE,) for how in ("do", "fail")},
    "404": (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",),
    "400": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",),
    "wrong handshake": (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",),
    "protocol error": (opening() + b"\xff\xff",),
}
LEAVES = {
    "later wait": (post("later", "wait"),),
    "upgrade wait": (opening("?upgrade=wait"),),
    "text wait": (opening() + frame(1, b"wait"),),
    "half a head": (b"GET / HT",),
    "half a body": (post("later", "do")[:-2],),
}


@contextlib.contextmanager
def without_collector():
    """Collect nothing; yields what lists what only the collector would have found."""

    def found() -> Counter:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = Counter(type(thing).__name__ for thing in gc.garbage if is_ours(thing))
        gc.set_debug(0)
        gc.garbage.clear()
        return kinds

    gc.collect()
    gc.disable()
    try:
        yield found
    finally:
        gc.enable()


def is_ours(thing: object) -> bool:
    kinds = (asyncio.Future, BaseException, types.FrameType, types.TracebackType, types.CoroutineType, Payload)
    return isinstance(thing, kinds) or type(thing).__module__.startswith("fastws")


@pytest.fixture
def quiet(monkeypatch):
    """Log nothing: a record that pytest keeps has the traceback of what failed."""
    monkeypatch.setattr("logging.Logger.disabled", True, raising=False)
    monkeypatch.setattr("logging.Logger.isEnabledFor", lambda logger, level: False)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("pieces", "leave"),
    [*((talk, False) for talk in TALKS.values()), *((talk, True) for talk in LEAVES.values())],
    ids=[*TALKS, *(f"{name}, and leaves" for name in LEAVES)],
)
async def test_however_it_ends_nothing_is_left_to_the_collector(pieces, leave):
    async with fastws.serve(Everything, port=0, close_timeout=0.1) as server:

        async def talk() -> None:
            await say(server.addresses[0][1], *pieces, leave=leave)
            await until(lambda: not server.http_connections and not live_objects()["connections"])

        await talk()
        with without_collector() as found:
            for _ in range(COUNT):
                await talk()
            assert found() == {}


def tls_visit(port: int, manner: str) -> None:
    """A client in a thread, with TLS, that says a request, turns away at the certificate, or says something else."""
    context = ssl.create_default_context() if manner == "distrusts" else client_context()
    if manner == "no TLS":
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(post("now", "do"))
        return
    sock = socket.create_connection(("127.0.0.1", port))
    with contextlib.suppress(OSError), sock, context.wrap_socket(sock, server_hostname="localhost") as tls:
        tls.sendall(post("later", "refuse"))
        while tls.recv(65536):
            pass


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has another TLS before CPython 3.11")
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("manner", ["asks", "distrusts", "no TLS"])
async def test_tls_leaves_nothing_of_ours_to_the_collector(manner):
    async with fastws.serve(Everything, port=0, close_timeout=0.1, ssl=server_context()) as server:
        port = server.addresses[0][1]
        await asyncio.to_thread(tls_visit, port, manner)
        await asyncio.sleep(0.1)
        with without_collector() as found:
            for _ in range(COUNT):
                await asyncio.to_thread(tls_visit, port, manner)
            await until(lambda: not server.http_connections)
            await asyncio.sleep(0.1)
            ours = {kind: count for kind, count in found().items() if kind in OURS}
            assert ours == {}


OURS = {"_Opening", "HttpProtocol", "Request", "Exchange", "Payload", "Refuse"}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"proxy_protocol": True}, b"nonsense, and no header\r\n\r\n"),
        ({"proxy_protocol": True}, b"PROXY UNKNOWN\r\n" + post("now", "do")),
        ({"max_connections": 1}, post("now", "do")),
    ],
    ids=["no PROXY header", "PROXY header", "one too many"],
)
async def test_the_door_leaves_nothing_to_the_collector(options, said):
    async with fastws.serve(Everything, port=0, close_timeout=0.1, **options) as server:
        port = server.addresses[0][1]
        with socket.create_connection(("127.0.0.1", port)):
            await asyncio.sleep(0.05)
            await say(port, said)
            with without_collector() as found:
                for _ in range(COUNT):
                    await say(port, said)
                await asyncio.sleep(0.05)
                assert found() == {}


@pytest.mark.usefixtures("quiet")
async def test_a_call_from_a_thread_leaves_nothing_to_the_collector_however_it_ends():
    def fail() -> None:
        payload = Payload()
        raise Failure(type(payload).__name__)

    def ask() -> None:
        assert server.call_from_thread(int) == 0
        with contextlib.suppress(Failure):
            server.call_from_thread(fail)

    async with fastws.serve(Everything, port=0, close_timeout=0.1) as server:
        await asyncio.to_thread(ask)
        with without_collector() as found:
            for _ in range(COUNT):
                await asyncio.to_thread(ask)
            assert found() == {}
