from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import socket

import pytest

from fastws import http, ws
from fastws.http import Refuse, Request, Response
from fastws.http1.connection import HttpProtocol
from fastws.http1.redaction import REDACTION
from fastws.net.deadlines import Deadlines
from fastws.net.limits import Limits
from fastws.net.turns import Turns
from fastws.options import ServerOptions
from fastws.service.compile import compile
from fastws.service.routing import Router
from fastws.service.slowness import SlowHandlers

# Nothing here takes long, and nothing may hang.
TIMEOUT = 10


class Server:
    """What a connection needs of a server, and a loopback socket."""

    def __init__(self, services, options: ServerOptions) -> None:
        self.loop = asyncio.get_running_loop()
        self.router = Router([compile(service) for service in services])
        self.options = options
        self.deadlines = Deadlines(self.loop, resolution=0.01)
        self.turns = Turns(self.loop)
        self.http_connections: set[HttpProtocol] = set()
        self.limits = Limits(max_handshakes=1000, max_per_address=None)
        self.slow_handlers = SlowHandlers(None)
        self.redaction = REDACTION
        self.proxies = None
        self.closing = False
        self.is_ready = True
        self.refuses_upgrades = False
        self.retry_after = lambda: 5
        self.opened: list[tuple[str, Request, str | None, bytes]] = []

    def begin_to_close(self) -> None:
        self.closing = self.refuses_upgrades = True
        self.is_ready = False

    def context_of(self, resource) -> contextvars.Context:
        return contextvars.copy_context()

    def left(self, protocol) -> None:
        self.http_connections.discard(protocol)

    def admit(self, transport, address):
        return self.limits.enter(None)

    def open_websocket(self, transport, service, request, accepted, rest, *, address, on_release) -> None:
        self.opened.append((service.name, request, accepted.subprotocol, rest))
        transport.set_protocol(asyncio.Protocol())
        transport.write(accepted.response)
        transport.write_eof()

    async def listen(self) -> None:
        self._listener = await self.loop.create_server(lambda: HttpProtocol(self), "127.0.0.1", 0)
        self.address = self._listener.sockets[0].getsockname()

    async def close(self) -> None:
        self._listener.close()
        await self._listener.wait_closed()
        while self.http_connections:
            await asyncio.sleep(0.001)
        assert len(self.deadlines) == self.limits.handshakes == 0
        self.deadlines.close()

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.address))
        await self.until(lambda: self.http_connections)
        return client

    async def until(self, condition) -> None:
        async def wait():
            while not condition():
                await asyncio.sleep(0.001)

        await asyncio.wait_for(wait(), TIMEOUT)

    async def ask(self, *parts: bytes) -> bytes:
        """Everything that a client gets until the server closes; its Date left out."""
        client = await self.connect()
        for part in parts:
            await client.send(part)
        return await client.rest()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(0)

    async def response(self) -> bytes:
        """One response with its Content-Length; its Date left out."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), TIMEOUT)
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
        return without_date(head + await asyncio.wait_for(self.reader.readexactly(length), TIMEOUT))

    async def rest(self) -> bytes:
        data = await asyncio.wait_for(self.reader.read(-1), TIMEOUT)
        await self.close()
        return without_date(data)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def leave(self) -> None:
        self.writer.transport.abort()


def without_date(data: bytes) -> bytes:
    return b"\r\n".join(line for line in data.split(b"\r\n") if not line.startswith(b"Date: "))


@pytest.fixture
async def serve():
    servers = []

    async def serve(*services, **limits) -> Server:
        server = Server(services or [Notes], ServerOptions(access_log=True, **limits))
        servers.append(server)
        await server.listen()
        return server

    yield serve
    for server in servers:
        await server.close()


@http.base_path("/notes")
class Notes:
    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()

    @http.get("/text")
    def text(self):
        return "grüße"

    @http.get("/bytes")
    def bytes(self):
        return b"\x00\xff"

    @http.get("/json")
    def json(self):
        return {"a": [1, None, "ü"]}

    @http.delete("/nothing")
    def nothing(self):
        return None

    @http.get("/page")
    async def page(self):
        return Response("<p>", 201, {"Content-Type": "text/html", "X-A": "b"})

    @http.put("/echo")
    @http.post("/echo")
    def echo(self, body):
        return body

    @http.post("/sum")
    async def sum(self, json):
        return sum(json)

    @http.get("/find/{name}/{number}")
    def find(self, name, number: int, request, headers, q: str, limit: int = 10, *, deep: bool = False):
        return [name, number, request.method, headers["X-Token"], q, limit, deep]

    @http.options("/own")
    def own_options(self):
        return "my own"

    @http.head("/own")
    def own_head(self):
        return Response(headers={"X-Size": "large"})

    @http.get("/rest/{path...}")
    def rest(self, path):
        return [path]

    @http.get("/refuse")
    def refuse(self):
        raise Refuse(303, headers={"Location": "/elsewhere"})

    @http.get("/broken")
    def broken(self):
        raise RuntimeError("the secret")

    @http.get("/broken-later")
    async def broken_later(self):
        await asyncio.sleep(0)
        raise RuntimeError("the secret")

    @http.get("/unsayable")
    def unsayable(self):
        return object()

    @http.get("/slow")
    async def slow(self):
        self.started.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"


def get(path: str, *fields: str, method: str = "GET", close: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *fields, *(["Connection: close"] if close else []), "", ""]
    return "\r\n".join(lines).encode()


NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\n%b\r\n404 Not Found\n"
)


# --- Results.


@pytest.mark.parametrize(
    ("request_line", "response"),
    [
        (
            "GET /notes/text",
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 7\r\n"
                b"Connection: close\r\n\r\ngr\xc3\xbc\xc3\x9fe"
            ),
        ),
        (
            "GET /notes/bytes",
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 2\r\n"
                b"Connection: close\r\n\r\n\x00\xff"
            ),
        ),
        (
            "GET /notes/json/",
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"
                b'Connection: close\r\n\r\n{"a":[1,null,"\xc3\xbc"]}'
            ),
        ),
        ("DELETE /notes/nothing", b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        (
            "GET /notes/page",
            (
                b"HTTP/1.1 201 Created\r\nContent-Type: text/html\r\nX-A: b\r\nContent-Length: 3\r\n"
                b"Connection: close\r\n\r\n<p>"
            ),
        ),
        (
            "HEAD /notes/text",
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 7\r\n"
                b"Connection: close\r\n\r\n"
            ),
        ),
        (
            "GET http://a/notes/bytes",
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 2\r\n"
                b"Connection: close\r\n\r\n\x00\xff"
            ),
        ),
        (
            "GET /notes/refuse",
            (
                b"HTTP/1.1 303 See Other\r\nLocation: /elsewhere\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Content-Length: 10\r\nConnection: close\r\n\r\nSee Other\n"
            ),
        ),
        ("GET /", NOT_FOUND % b"Connection: close\r\n"),
        ("GET /notes", NOT_FOUND % b"Connection: close\r\n"),
        ("OPTIONS *", b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        ("OPTIONS /notes/none", NOT_FOUND % b"Connection: close\r\n"),
        (
            "OPTIONS /notes/text",
            b"HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\nConnection: close\r\n\r\n",
        ),
        (
            "OPTIONS /notes/own",
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n"
                b"Connection: close\r\n\r\nmy own"
            ),
        ),
        (
            "GET /notes/rest/a%20b/c/",
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
                b'["a b/c"]'
            ),
        ),
        ("HEAD /notes/own", b"HTTP/1.1 200 OK\r\nX-Size: large\r\nConnection: close\r\n\r\n"),
        (
            "GET /notes/own",
            (
                b"HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Allow: HEAD, OPTIONS\r\nContent-Length: 23\r\nConnection: close\r\n\r\n405 Method Not Allowed\n"
            ),
        ),
        (
            "POST /notes/text",
            (
                b"HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Allow: GET, HEAD, OPTIONS\r\nContent-Length: 23\r\nConnection: close\r\n\r\n405 Method Not Allowed\n"
            ),
        ),
        (
            "GET /notes/echo",
            (
                b"HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Allow: OPTIONS, POST, PUT\r\nContent-Length: 23\r\nConnection: close\r\n\r\n405 Method Not Allowed\n"
            ),
        ),
    ],
)
async def test_a_request_gets_its_response_byte_by_byte(serve, request_line, response):
    server = await serve()
    method, target = request_line.split()
    request = get(target, method=method)
    assert await server.ask(request) == response
    assert await server.ask(*(request[n : n + 1] for n in range(len(request)))) == response


async def test_responses_carry_the_date(serve):
    server = await serve()
    client = await server.connect()
    await client.send(get("/"))
    assert b"\r\nDate: " in await client.reader.read(-1)
    await client.close()


@pytest.mark.parametrize(
    ("path", "status", "logged"),
    [
        ("/notes/broken", b"500 Internal Server Error", "Notes.broken failed"),
        ("/notes/broken-later", b"500 Internal Server Error", "Notes.broken_later failed"),
        ("/notes/unsayable", b"500 Internal Server Error", "Notes.unsayable failed"),
    ],
)
async def test_a_failing_resource_is_logged_once_and_the_client_learns_nothing(serve, caplog, path, status, logged):
    server = await serve()
    client = await server.connect()
    await client.send(get(path, close=False) + get("/notes/text"))
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"secret" not in answer
    assert b"HTTP/1.1 200 OK" in answer
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == logged
    assert record.exc_info is not None


# --- Arguments.


async def test_arguments_come_by_name_from_path_query_and_request(serve):
    server = await serve()
    target = "/notes/find/caf%C3%A9/7/?q=a%20b&limit=3&deep=yes&q=second&unknown=1"
    answer = await server.ask(get(target, "x-token: secret"))
    assert answer.endswith('\r\n\r\n["café",7,"GET","secret","a b",3,true]'.encode())


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/notes/find/a/7", b"400 Bad Request"),
        ("/notes/find/a/7?q=a&limit=x", b"400 Bad Request"),
        ("/notes/find/a/7?q=a&deep=perhaps", b"400 Bad Request"),
        ("/notes/find/a/seven?q=a", b"404 Not Found"),
        ("/notes/find/../7?q=a", b"404 Not Found"),
    ],
)
async def test_arguments_that_cannot_be_converted_are_refused(serve, target, status):
    server = await serve()
    answer = await server.ask(get(target, "X-Token: a"))
    assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("body", "answer"),
    [(b"[1, 2]", b"\r\n\r\n3"), (b"", b"the body is not JSON\n"), (b"\xff", b"the body is not JSON\n")],
)
async def test_a_json_body_is_decoded(serve, body, answer):
    server = await serve()
    got = await server.ask(get("/notes/sum", f"Content-Length: {len(body)}", method="POST") + body)
    assert got.endswith(answer)


# --- Bodies.


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\n\r\n",
        b"Transfer-Encoding: Chunked\r\n\r\n05\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b"Upgrade: h2c\r\nContent-Length: 5\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\nhello",
    ],
)
async def test_a_body_is_read_whole_and_byte_by_byte_and_the_next_request_after_it(serve, body):
    server = await serve()
    request = b"POST /notes/echo HTTP/1.1\r\nHost: a\r\n" + body
    last = get("/notes/text")
    for parts in ([request + last], [request[n : n + 1] for n in range(len(request))] + [last]):
        answer = await server.ask(*parts)
        assert b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n" in answer


async def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_gets_413(serve):
    server = await serve(max_body_size=100)
    request = "POST /notes/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n"
    assert (await server.ask(request.format(100).encode() + b"x" * 100)).startswith(b"HTTP/1.1 200 OK")
    assert (await server.ask(request.format(101).encode())).startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_over_the_limit_gets_413(serve):
    server = await serve(max_body_size=100)
    head = b"POST /notes/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await server.ask(head, b"40\r\n" + b"x" * 64 + b"\r\n", b"40\r\n" + b"x" * 64)).startswith(b"HTTP/1.1 413 ")


async def test_a_refusal_survives_a_client_that_goes_on_sending(serve):
    server = await serve(max_body_size=100)
    client = await server.connect()
    await client.send(get("/notes/echo", "Content-Length: 4000000", method="POST"))
    client.writer.write(b"x" * 4_000_000)
    assert (await client.response()).startswith(b"HTTP/1.1 413 ")
    await client.writer.drain()
    assert await client.rest() == b""


async def test_a_body_for_nobody_is_skipped_and_the_connection_lives_on(serve):
    server = await serve()
    answer = await server.ask(get("/nowhere", "Content-Length: 5", method="POST", close=False) + b"hello" + get("/"))
    assert answer == NOT_FOUND % b"" + NOT_FOUND % b"Connection: close\r\n"


# --- Expect.


async def test_the_client_is_invited_to_send_the_body_that_it_announced(serve):
    server = await serve()
    client = await server.connect()
    await client.send(get("/notes/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
    assert await client.response() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hello")
    assert (await client.rest()).endswith(b"\r\n\r\nhello")


async def test_a_body_that_comes_at_once_needs_no_invitation(serve):
    server = await serve()
    request = get("/notes/echo", "Content-Length: 5", "Expect: 100-continue", method="POST")
    assert (await server.ask(request + b"hello")).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/nowhere", ("Content-Length: 5", "Expect: 100-continue"), b"404 Not Found"),
        ("/notes/echo", ("Content-Length: 5000000", "Expect: 100-continue"), b"413 "),
        ("/notes/echo", ("Content-Length: 5", "Expect: 200-ok"), b"417 Expectation Failed"),
    ],
)
async def test_a_body_that_nobody_wants_is_refused_before_it_is_sent(serve, path, fields, status):
    server = await serve()
    answer = await server.ask(get(path, *fields, method="POST", close=False))
    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_the_invitation_waits_for_the_responses_before_it(serve):
    notes = Notes()
    server = await serve(notes)
    client = await server.connect()
    await client.send(get("/notes/slow", close=False))
    await client.send(get("/notes/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
    await notes.started.wait()
    notes.go_on.set()
    assert (await client.response()).endswith(b"\r\n\r\ndone")
    assert await client.response() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hello")
    assert (await client.rest()).endswith(b"\r\n\r\nhello")


# --- Many requests on one connection.


async def test_pipelined_requests_are_answered_in_order(serve):
    server = await serve()
    answer = await server.ask(
        get("/notes/page", close=False) + get("/", close=False) + get("/notes/page", close=False) + get("/notes/text")
    )
    statuses = [line for line in answer.split(b"\r\n") if b"HTTP/1.1 " in line]
    assert [status[status.index(b"HTTP") :][9:12] for status in statuses] == [b"201", b"404", b"201", b"200"]


async def test_who_asks_for_much_at_once_lets_others_have_their_turn(serve):
    server = await serve()
    client = await server.connect()
    (connection,) = server.http_connections
    connection.data_received(get("/", close=False) * 100)
    assert len(connection._reader.exchanges) == 100 - 8
    assert [await client.response() for _ in range(100)] == [NOT_FOUND % b""] * 100
    await client.send(get("/"))
    assert await client.rest() == NOT_FOUND % b"Connection: close\r\n"


async def test_no_more_than_a_piece_is_read_in_a_turn(serve):
    server = await serve(max_body_size=1 << 30)
    client = await server.connect()
    (connection,) = server.http_connections
    head = b"POST /notes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.data_received(head + b"1\r\nx\r\n" * 10_000)
    assert len(connection._input) > 40_000
    await client.send(b"0\r\n\r\n")
    assert (await client.response()).startswith(b"HTTP/1.1 404 ")
    client.leave()


async def test_a_connection_is_kept_as_the_versions_say(serve):
    server = await serve()
    client = await server.connect()
    await client.send(get("/", close=False))
    assert await client.response() == NOT_FOUND % b""
    await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert await client.response() == NOT_FOUND % b"Connection: keep-alive\r\n"
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert await client.rest() == NOT_FOUND % b"Connection: close\r\n"


async def test_nothing_is_answered_after_a_request_that_closes(serve):
    server = await serve()
    assert await server.ask(get("/") + get("/notes/text")) == NOT_FOUND % b"Connection: close\r\n"


async def test_one_request_is_handled_at_a_time_and_reading_waits(serve):
    notes = Notes()
    server = await serve(notes)
    client = await server.connect()
    await client.send(get("/notes/slow", close=False))
    await notes.started.wait()
    client.writer.write(get("/notes/slow", "X: " + "x" * 9000, close=False) * 2000)
    [connection] = server.http_connections
    await server.until(lambda: connection._paused)
    assert len(connection._input) <= 1 << 18
    notes.go_on.set()
    for _ in range(2001):
        assert (await client.response()).endswith(b"\r\n\r\ndone")
    await client.close()


async def test_a_client_that_does_not_read_is_not_answered_on(serve):
    unsent: list[int] = []

    @http.base_path("/")
    class Big:
        @http.get("/")
        def get(self):
            unsent.extend(connection._transport.get_write_buffer_size() for connection in server.http_connections)
            return b"x" * 1_000_000

    server = await serve(Big)
    client = await server.connect()
    client.writer.transport.pause_reading()
    await client.send(get("/", close=False) * 100)
    [connection] = server.http_connections
    await server.until(lambda: not connection._writable)
    assert len(unsent) < 100
    client.writer.transport.resume_reading()
    for _ in range(100):
        await client.response()
    assert max(unsent) < 1_000_000
    await client.close()


async def test_a_client_that_never_reads_is_dropped(serve):
    @http.base_path("/")
    class Big:
        @http.get("/")
        def get(self):
            return b"x" * 30_000_000

    server = await serve(Big, keep_alive_timeout=0.02)
    client = await server.connect()
    client.writer.transport.pause_reading()
    await client.send(get("/", close=False))
    await server.until(lambda: not server.http_connections)
    await client.close()


async def test_a_resource_is_cancelled_when_its_client_leaves(serve):
    notes = Notes()
    server = await serve(notes)
    client = await server.connect()
    await client.send(get("/notes/slow"))
    await notes.started.wait()
    client.leave()
    await asyncio.wait_for(notes.cancelled.wait(), TIMEOUT)


# --- Bad input.


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"BREW /pot HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /#part HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\x00c\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        # What two parties could frame differently.
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_garbage_gets_400_after_the_responses_that_are_due(serve, caplog, garbage):
    server = await serve()
    refused = (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n"
        b"Connection: close\r\n\r\n400 Bad Request\n"
    )
    assert await server.ask(garbage) == refused
    assert await server.ask(*(garbage[n : n + 1] for n in range(len(garbage)))) == refused
    assert await server.ask(get("/", close=False) + garbage) == NOT_FOUND % b"" + refused
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"505"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
    ],
)
async def test_what_is_not_spoken_here_is_told_so(serve, request_bytes, status):
    server = await serve()
    assert (await server.ask(request_bytes)).startswith(b"HTTP/1.1 " + status)


LONG = b"x" * 20_000


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /" + LONG + b" HTTP/1.1\r\nHost: a\r\n\r\n"],
        [b"GET /", *[b"x" * 1000] * 20],
        [b"GET / HTTP/1.1\r\nHost: a\r\nA: " + LONG + b"\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nHost: a\r\nA: " + LONG],
        [b"GET / HTTP/1.1\r\nHost: a\r\n", *[b"A: " + b"x" * 1000 + b"\r\n"] * 20],
        [b"GET / HTTP/1.1\r\nHost: a\r\nA:" + b" " * 20_000],
        [b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 129 + b"\r\n"],
        [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + LONG * 5],
        [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: " + LONG * 5],
        [
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            *[b"A: " + b"x" * 1000 + b"\r\n"] * 20,
        ],
    ],
)
async def test_a_head_or_trailer_that_is_too_long_gets_431(serve, parts):
    server = await serve()
    assert (await server.ask(*parts)).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


async def test_a_head_of_exactly_the_limit_is_taken(serve):
    server = await serve()
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nA: %b\r\n\r\n"
    for size, status in ((16384, b"404"), (16385, b"431")):
        padded = request % (b"x" * (size - len(request) + 2))
        assert len(padded) == size
        assert (await server.ask(padded))[9:12] == status


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST /notes/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
    ],
)
async def test_a_request_that_does_not_come_to_an_end_is_dropped(serve, start):
    server = await serve(handshake_timeout=0.02)
    assert await server.ask(start) == b""


async def test_an_idle_connection_is_closed_after_a_while(serve):
    server = await serve(keep_alive_timeout=0.02)
    assert await server.ask(get("/", close=False)) == NOT_FOUND % b""


async def test_a_client_may_leave_in_the_middle_of_everything(serve):
    server = await serve()
    request = get("/notes/echo", "Content-Length: 5", method="POST", close=False) + b"hello"
    for end in range(0, len(request), 7):
        client = await server.connect()
        await client.send(request[:end])
        await client.close()
        client = await server.connect()
        await client.send(request[:end])
        client.leave()
    await server.until(lambda: not server.http_connections)


# --- Upgrades.


@http.base_path("/chat")
class Chat:
    @http.get("/{room}")
    def page(self, room):
        return room

    @http.post("/{room}")
    def say(self, room):
        return None


ws.upgrade_path("/{place}", subprotocols=["chat"], allowed_origins=["http://a"])(Chat)

OPENING = (
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
    "Origin: http://a",
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def test_an_upgrade_hands_over_the_connection_with_the_bytes_behind_it(serve):
    server = await serve(Chat)
    frame = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
    assert await server.ask(get("/chat/caf%C3%A9?a=b", *OPENING, close=False) + frame) == SWITCHING
    [(name, request, subprotocol, rest)] = server.opened
    assert (name, subprotocol, rest) == ("Chat", None, frame)
    assert request.path_parameters == {"place": "café"}
    assert request.query["a"] == "b"
    assert request.remote_address[0] == "127.0.0.1"
    assert not server.http_connections


async def test_an_upgrade_may_come_byte_by_byte(serve):
    server = await serve(Chat)
    request = get("/chat/a", *OPENING, close=False)
    assert await server.ask(*(request[n : n + 1] for n in range(len(request)))) == SWITCHING


async def test_an_upgrade_waits_for_the_responses_before_it(serve):
    notes = Notes()
    server = await serve(notes, Chat)
    client = await server.connect()
    await client.send(get("/notes/slow", close=False) + get("/chat/a", *OPENING, close=False) + b"first ")
    await notes.started.wait()
    await client.send(b"second")
    assert not server.opened
    notes.go_on.set()
    assert (await client.response()).endswith(b"done")
    assert await client.response() == SWITCHING
    assert server.opened[0][3].startswith(b"first ")
    await client.close()


@pytest.mark.parametrize(
    ("request_bytes", "start"),
    [
        (get("/chat/a/b", *OPENING, close=False), b"HTTP/1.1 404 Not Found\r\n"),
        (get("/chat/a", *OPENING, close=False, method="PUT"), b"HTTP/1.1 405 Method Not Allowed\r\n"),
        (get("/chat/a", *OPENING[:1]), b"HTTP/1.1 400 Bad Request\r\n"),
        (get("/chat/a", *OPENING[:3], close=False), b"HTTP/1.1 400 Bad Request\r\n"),
        (get("/chat/a", *OPENING[:4], close=False), b"HTTP/1.1 403 Forbidden\r\n"),
        (get("/chat/a", *OPENING[:3], "Sec-WebSocket-Version: 8", close=False), b"HTTP/1.1 426 Upgrade Required\r\n"),
        (get("/chat/a", *OPENING, close=False).replace(b"1.1", b"1.0"), b"HTTP/1.1 400 Bad Request\r\n"),
    ],
)
async def test_a_handshake_that_fails_gets_its_status_and_the_end(serve, request_bytes, start):
    server = await serve(Chat)
    answer = await server.ask(request_bytes + b"\x81\x80\x00\x00\x00\x00")
    assert answer.startswith(start)
    assert b"\r\nConnection: close\r\n" in answer
    assert not server.opened


async def test_a_plain_request_gets_the_resource_that_shares_the_path(serve):
    server = await serve(Chat)
    assert (await server.ask(get("/chat/a"))).endswith(b"\r\n\r\na")
    for fields in ((), OPENING):
        answer = await server.ask(get("/chat/a", *fields, method="DELETE"))
        assert answer.split(b"\r\n")[2] == b"Allow: GET, HEAD, OPTIONS, POST"


async def test_a_plain_request_to_a_websocket_alone_is_told_to_upgrade(serve):
    lonely = ws.upgrade_path("/")(type("Lonely", (), {}))
    server = await serve(http.base_path("/")(lonely))
    assert await server.ask(get("/")) == (
        b"HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain; charset=utf-8\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nContent-Length: 30\r\nConnection: close\r\n\r\nonly WebSocket is spoken here\n"
    )
    assert (await server.ask(get("/", method="POST"))).split(b"\r\n")[2] == b"Allow: GET, OPTIONS"


UPGRADES = ["Upgrade: websocket", "Upgrade: h2c, websocket", "Upgrade: foo"]


@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_an_upgrade_that_nothing_answers_is_ignored(serve, upgrade):
    server = await serve(Notes(), Chat)
    for fields in ((upgrade, "Connection: Upgrade"), (*OPENING[1:], upgrade)):
        answer = await server.ask(get("/notes/text", *fields, close=False) + get("/notes/text"))
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    body = b"what is said"
    post = get("/notes/echo", *OPENING[1:], upgrade, f"Content-Length: {len(body)}", close=False, method="POST")
    answer = await server.ask(post + body + get("/notes/text"))
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"\r\n\r\nwhat is said" in answer


async def test_another_method_with_an_upgrade_gets_the_resource_beside_the_websocket(serve):
    server = await serve(Chat)
    answer = await server.ask(get("/chat/a", *OPENING, "Content-Length: 0", method="POST"))
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert not server.opened


class Encrypted(asyncio.Transport):
    """A transport that speaks TLS and knows a certificate."""

    def __init__(self, certificate) -> None:
        super().__init__({"sslcontext": True, "peercert": certificate, "peername": ("127.0.0.1", 5)})

    def set_protocol(self, protocol) -> None:
        pass

    def write(self, data) -> None:
        pass

    def write_eof(self) -> None:
        pass


@pytest.mark.parametrize(
    ("certificate", "told"),
    [({"serialNumber": "01"}, {"serialNumber": "01"}), ({}, None), (None, None)],
    ids=["verified", "not verified", "none"],
)
async def test_a_request_has_the_certificate_that_its_client_showed(serve, certificate, told):
    server = await serve(Chat)
    protocol = HttpProtocol(server)
    protocol.connection_made(Encrypted(certificate))
    protocol.data_received(get("/chat/a", *OPENING, close=False))
    assert server.opened[0][1].peer_certificate == told


# --- Shutdown and log.


async def test_an_idle_connection_closes_at_once_at_shutdown_and_a_busy_one_after_its_response(serve):
    notes = Notes()
    server = await serve(notes)
    idle, busy = await server.connect(), await server.connect()
    await idle.send(get("/", close=False))
    await idle.response()
    await busy.send(get("/notes/slow", close=False))
    await notes.started.wait()
    server.begin_to_close()
    for connection in list(server.http_connections):
        connection.shutdown()
    assert await idle.rest() == b""
    notes.go_on.set()
    assert (await busy.rest()).endswith(b"Connection: close\r\n\r\ndone")


async def test_no_websocket_is_opened_at_shutdown(serve):
    server = await serve(Chat)
    client = await server.connect()
    server.begin_to_close()
    await client.send(get("/chat/a", *OPENING, close=False))
    assert (await client.rest()).startswith(b"HTTP/1.1 503 ")


async def test_a_connection_that_comes_too_late_is_closed(serve):
    server = await serve(Chat)
    server.begin_to_close()
    client = Client(*await asyncio.open_connection(*server.address))
    assert await client.rest() == b""


async def test_the_access_log_has_one_line_per_response(serve, caplog):
    caplog.set_level(logging.INFO, "fastws.access")
    server = await serve(Chat)
    await server.ask(get("/chat/a?b=c", close=False) + b"garbage")
    await server.ask(get("/chat/a", *OPENING, close=False))
    lines = [record.getMessage() for record in caplog.records if record.name == "fastws.access"]
    assert lines == ['127.0.0.1 "GET /chat/a?b=c" 200 1', "- - 400 16", '127.0.0.1 "GET /chat/a" 101 0']


async def test_a_unix_socket_has_no_remote_address(serve):
    server = await serve(Chat)
    ours, theirs = socket.socketpair()
    await server.loop.connect_accepted_socket(lambda: HttpProtocol(server), theirs)
    client = Client(*await asyncio.open_connection(sock=ours))
    await client.send(get("/chat/a", *OPENING, close=False))
    assert await client.rest() == SWITCHING
    assert server.opened[0][1].remote_address is None
