"""Any bytes to the HTTP side, in any pieces, are answered with responses that parse, or it waits for more of them.

What the client gets, and what becomes a WebSocket, depends neither on the pieces nor on when the client reads; what
waits is bounded; and nothing raises, nor logs an error. Choices: one byte, after which pieces the client reads nothing.
"""

from __future__ import annotations

import contextvars
import logging
import re
from collections import deque
from collections.abc import Callable

from fastws import http, ws
from fastws.http1.connection import HttpProtocol
from fastws.http1.forwarded import TrustedProxies
from fastws.net.limits import Limits
from fastws.net.turns import Turns
from fastws.options import ServerOptions
from fastws.service.compile import compile
from fastws.service.routing import Router
from fastws.service.slowness import SlowHandlers

from .inputs import join, pieces, split

LIMITS = ServerOptions(max_head_size=400, max_head_fields=12, max_body_size=100)


@http.base_path("/a")
@ws.upgrade_path("/ws", subprotocols=["chat"])
class Service:
    @http.get("/{n}")
    def number(self, n: int, times: int = 1) -> str:
        return f"{n * times}"

    @http.post("/body")
    def body(self, body: bytes) -> bytes:
        return body


class Deadlines:
    """No time passes."""

    def set(self, waiting, seconds) -> None:
        pass

    def clear(self, waiting) -> None:
        pass


class Transport:
    """Keeps what is written; reads and is read when it is told to."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.reading = True
        self.ended = False

    def get_extra_info(self, name, default=None):
        return ("192.0.2.1", 1234) if name == "peername" else default

    def write(self, data: bytes) -> None:
        assert not self.ended, "written to after the end"
        self.writes.append(data)

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        assert not self.ended, "ended twice"
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended


class Loop:
    """A loop that takes its next turns when it is told to."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._due.append(callback)

    def take(self) -> None:
        while self._due:
            self._due.popleft()()


class Server:
    """What a connection needs of its server; a WebSocket is only noted."""

    router = Router([compile(Service)])
    options = LIMITS
    deadlines = Deadlines()
    proxies = TrustedProxies(["192.0.2.0/24"])
    closing = False
    refuses_upgrades = False
    is_ready = True
    slow_handlers = SlowHandlers(None)

    def __init__(self) -> None:
        self.loop = Loop()
        self.turns = Turns(self.loop)
        self.http_connections: set[HttpProtocol] = set()
        self.limits = Limits(max_handshakes=1, max_per_address=None)
        self.websocket = None

    def left(self, protocol) -> None:
        self.http_connections.discard(protocol)

    def admit(self, transport, address) -> Callable[[], None]:
        return self.limits.enter(None)

    def context_of(self, owner) -> contextvars.Context:
        return contextvars.copy_context()

    def open_websocket(self, transport, service, request, accepted, rest, *, address, on_release) -> None:
        transport.write(accepted.response)
        self.websocket = service.name, request.raw_target, request.raw_headers, accepted.subprotocol, rest


class Errors(logging.Handler):
    """Makes an error that is logged a finding."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


HANDLER = Errors(logging.ERROR)


def check(data: bytes) -> None:
    choices, wire, cuts = split(data, 1)
    logging.getLogger("fastws").addHandler(HANDLER)
    try:
        whole, cut = outcome([wire], 0), outcome(pieces(wire, cuts), choices[0])
        assert cut == whole or (len(wire) > LIMITS.max_head_size and only_noticed_earlier(cut, whole)), (cut, whole)
    finally:
        logging.getLogger("fastws").removeHandler(HANDLER)


def only_noticed_earlier(cut, whole) -> bool:
    """A head over the limit is refused with 431 before its end is seen; whole, what else is wrong may count first."""
    responses, websocket, ended = cut
    *before, last = responses or [b""]
    return last.startswith(b"HTTP/1.1 431 ") and whole[0][: len(before)] == before and websocket is None and ended


def outcome(parts, held: int):
    """What the client got and what became of the connection."""
    server, transport = Server(), Transport()
    protocol = HttpProtocol(server)
    protocol.connection_made(transport)
    late = b""
    for number, part in enumerate(parts):
        if server.websocket is not None:
            late += part
            continue
        hold = held >> number % 8 & 1
        if hold:
            protocol.pause_writing()
        protocol.data_received(part)
        if hold and server.websocket is None:
            protocol.resume_writing()
        server.loop.take()
        check_bounds(protocol)
    for written in transport.writes:
        check_response(written)
    websocket = server.websocket and (*server.websocket[:-1], server.websocket[-1] + late)
    if server.websocket is None:
        protocol.connection_lost(None)
    assert not server.http_connections
    assert server.limits.handshakes == 0
    # Who has sent the body already is not invited to
    responses = [without_date(written) for written in transport.writes if not written.startswith(b"HTTP/1.1 100 ")]
    return responses, websocket, transport.ended


def check_bounds(protocol: HttpProtocol) -> None:
    """All is answered that can be; what is kept of an incomplete request is within the limits."""
    assert not protocol._input
    if protocol._done:
        return
    reader = protocol._reader
    assert not reader.exchanges
    assert reader._undigested < LIMITS.max_head_size
    assert reader.incomplete is None or len(reader.incomplete.body) <= LIMITS.max_body_size


def check_response(written: bytes) -> None:
    """A status line, fields and the body that they announce; or what invites a body or opens a WebSocket."""
    head, end, body = written.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert end
    status = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [A-Za-z' -]+", line)
    assert status, line
    assert all(re.fullmatch(rb"[A-Za-z-]+: [ -~]*", field) for field in fields), fields
    lengths = [int(field[16:]) for field in fields if field.startswith(b"Content-Length: ")]
    expected = [] if status[1] in (b"100", b"101", b"204") else [len(body)]
    assert lengths == expected or not body  # nothing follows the head of an answer to HEAD


def without_date(written: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]*", b"", written)


def seeds() -> list[bytes]:
    host = b" HTTP/1.1\r\nHost: a\r\n"
    upgrade = (
        b"GET /a/ws"
        + host
        + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
    chunked = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
    wires = [
        upgrade + b"\x81\x85\0\0\0\0hello",
        b"GET /a/7?times=6" + host + b"\r\n" + upgrade,
        b"POST /a/body" + host + b"Content-Length: 5\r\n\r\nhelloHEAD /a/1" + host + b"\r\n",
        b"POST /a/body" + host + chunked + b"GET /a/x" + host + b"\r\n",
        b"POST /a/body" + host + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /a/body" + host + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc",
        b"GET http://b/a/7 HTTP/1.0\r\n\r\n",
        b"GET /a/7 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nOPTIONS *" + host + b"Connection: close\r\n\r\n",
        b"CONNECT b:443" + host + b"\r\n",
        b"PUT /a/7" + host + b"X: " + b"x" * 400 + b"\r\n\r\n",
        b"\r\n\r\nGET /a/7" + host + b"Y: y\r\n" * 12 + b"\r\n",
        b"GET /a/7" + host + b"Upgrade: websocket\r\n\r\n",
        b"GET /a/7" + host + b"Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\r\n",
    ]
    return [join(bytes([held]), wire, *cuts) for wire in wires for held, cuts in ((0, (1,)), (0xAA, (40, 7)))]
