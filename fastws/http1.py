"""One HTTP/1.1 connection, from the first byte to the last response or to the WebSocket.

Theory of operation. A `RequestReader` makes exchanges of what comes in: requests, each with what is to answer it.
`_pump` is the one place where things happen: it answers the next exchange, or reads the next piece of input, until an
async resource runs, the client has to read first, or nothing is left. So responses keep the order of pipelined
requests, one request is handled at a time, and what waits is bounded: one piece of parsed requests, one read of raw
bytes, and then reading is paused.

Whatever a connection waits for has a deadline of its own (`_arm`): what is being read (`Reading`), and BLOCKED (the
client does not read) and CLOSING (the last response is on its way); HANDLING (an async resource runs) has none.

Bytes that are no HTTP, or too many, end the connection after a last response. Unread input would make the kernel reset
the connection and take that response along, so the end is said first (a FIN), and input is discarded until the client
ends too, for a bounded time.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from .errors import HandshakeError
from .handshake import accept, check
from .heads import encode_head, error_response
from .http import Refuse, Response, call, to_response
from .http_reader import HttpLimits, Reading, RequestReader

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Coroutine

    from .deadlines import Deadlines
    from .handshake import Accepted
    from .http import Request
    from .http_reader import Exchange
    from .service import Resource, Router, Service

__all__ = ["HttpLimits", "HttpProtocol", "Server"]

logger = logging.getLogger("fastws.http")
access_logger = logging.getLogger("fastws.access")

# How much is parsed at a time: llhttp cannot be stopped between two requests, so this bounds how many can wait.
PIECE: Final = 1 << 16  # bytes

# How long a client may take to end a connection that we ended, or make no progress in reading the last response.
CLOSE_TIMEOUT: Final = 5.0  # seconds


class Server(Protocol):
    """What a connection needs of its server."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of all connections."""

    @property
    def router(self) -> Router:
        """What is served where."""

    @property
    def limits(self) -> HttpLimits:
        """What clients may send."""

    @property
    def deadlines(self) -> Deadlines:
        """The deadlines of the loop."""

    @property
    def http_connections(self) -> set[HttpProtocol]:
        """All connections that speak HTTP now; each adds and removes itself."""

    @property
    def access_log(self) -> bool:
        """Whether each response is logged."""

    @property
    def closing(self) -> bool:
        """Whether the server shuts down: responses are the last ones, and no WebSocket is opened."""

    def context_of(self, resource: Resource) -> contextvars.Context:
        """Make the context that a resource runs in, where `ws.broadcast_text` goes to its own service."""

    def open_websocket(
        self, transport: asyncio.Transport, service: Service, request: Request, accepted: Accepted, rest: bytes
    ) -> None:
        """Take over a transport: send the response, and read `rest` before what comes."""


class _Waiting(enum.Enum):
    """What is waited for besides what the client is to send (`Reading`)."""

    HANDLING = enum.auto()
    BLOCKED = enum.auto()
    CLOSING = enum.auto()


class HttpProtocol(asyncio.Protocol):
    """The protocol of an accepted connection until it closes or becomes a WebSocket.

    Args:
        server: see `Server`.
    """

    __slots__ = (
        "_armed",
        "_done",
        "_input",
        "_paused",
        "_reader",
        "_server",
        "_task",
        "_transport",
        "_unsent",
        "_writable",
    )

    _transport: asyncio.Transport
    _reader: RequestReader

    def __init__(self, server: Server) -> None:
        self._server = server
        # What the deadline that is set is for (None: it is to be set anew).
        self._armed: Reading | _Waiting | None = None
        # Raw input that is not read yet.
        self._input = b""
        # That of the exchange that is being answered.
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._writable = True
        self._unsent = 0
        # The last response is written, the connection is lost, or it is a WebSocket now.
        self._done = False

    # --- The transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the clock for the first request runs from here."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        # A Unix socket has no such address; that of IPv6 has two fields more.
        address = (peer[0], peer[1]) if isinstance(peer, tuple) else None
        self._reader = RequestReader(self._server.limits, self._server.router, address)
        self._server.http_connections.add(self)
        if self._server.closing:  # accepted just before the server stopped to listen
            self.shutdown()
            return
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Take input; what comes after the last response is discarded."""
        if not self._done:
            self._input = self._input + data if self._input else data
            self._pump()

    def connection_lost(self, error: Exception | None) -> None:
        """End: the client has left, so that nobody wants the result of a resource that still runs."""
        if self in self._server.http_connections:
            self._leave()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Stop answering: the client has to read first."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on answering."""
        self._writable = True
        self._pump()

    # The default eof_received closes the connection: who half-closes it while a resource runs counts as gone, because
    # nothing tells the two apart.

    # --- The server calls.

    def shutdown(self) -> None:
        """Close the connection after the response to the request that is being handled, or at once if there is none."""
        if self._task is None and not self._done:
            self._close(linger=False)

    def on_deadline(self) -> None:
        """Drop a client that is too slow."""
        if self._armed in (_Waiting.BLOCKED, _Waiting.CLOSING):
            unsent = self._transport.get_write_buffer_size()
            if 0 < unsent != self._unsent:
                # It reads slowly, but it reads.
                self._set_deadline(self._armed)
                return
        self._transport.abort()

    # --- Answering.

    def _pump(self) -> None:
        """Answer and read in turns, until somebody else has to do something first."""
        reader = self._reader
        while self._task is None and self._writable and not self._done:
            if reader.exchanges:
                self._armed = None
                self._answer(reader.exchanges.popleft())
            elif self._input and reader.reading is not Reading.ENDED:
                piece, self._input = self._input[:PIECE], self._input[PIECE:]
                rest = reader.feed(piece)
                self._input = rest + self._input
            else:
                break
        if not self._done:
            self._invite_body()
            self._hold_back()
            self._arm()

    def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if exchange.response is not None or request is None:
            self._send(exchange, exchange.response or error_response(400))
        elif exchange.service is not None:
            self._upgrade_to(exchange, exchange.service, request)
        elif exchange.resource is not None:
            self._call(exchange, exchange.resource, request)

    def _upgrade_to(self, exchange: Exchange, service: Service, request: Request) -> None:
        if self._server.closing:
            self._send(exchange, error_response(503))
            return
        assert service.upgrade is not None
        try:
            accepted = accept(check(request, service.upgrade))
        except HandshakeError as error:
            response = Response(error.body.decode(), error.status)
            response.headers.extend(error.headers)
            self._send(exchange, response)
            return
        rest, self._input = self._input, b""
        if self._server.access_log:
            _log(request, 101, 0)
        self._leave()
        if self._paused:
            self._transport.resume_reading()
        self._server.open_websocket(self._transport, service, request, accepted, rest)

    def _call(self, exchange: Exchange, resource: Resource, request: Request) -> None:
        try:
            context = self._server.context_of(resource)
            result = context.run(call, resource, request)
            if resource.handler.is_async:
                finishing = self._finish(exchange, resource, result)
                self._task = context.run(self._server.loop.create_task, finishing)
                return
            response = to_response(result)
        except Exception as error:
            response = _explain(error, resource)
        self._send(exchange, response)

    async def _finish(self, exchange: Exchange, resource: Resource, result: Coroutine[Any, Any, object]) -> None:
        try:
            response = to_response(await result)
        except Exception as error:
            response = _explain(error, resource)
        except asyncio.CancelledError:
            # The client has left; or somebody else cancelled the task, and then it gets no response.
            self._transport.abort()
            raise
        finally:
            self._task = None
        self._send(exchange, response)
        self._pump()

    def _send(self, exchange: Exchange, response: Response) -> None:
        if self._done:
            return
        request = exchange.request
        keep_alive = exchange.keep_alive and not self._server.closing
        head = encode_head(response, keep_alive, old=request is not None and request.http_version == "1.0")
        if response.body and (request is None or request.method != "HEAD"):
            # Not writelines: asyncio's of CPython 3.12 and 3.13.0 never tells us to pause
            self._transport.write(head + response.body)
        else:
            self._transport.write(head)
        if self._server.access_log:
            _log(request, response.status, len(response.body))
        if not keep_alive:
            unread = self._reader.reading is not Reading.IDLE or self._input or self._reader.exchanges
            self._close(linger=bool(unread))

    def _invite_body(self) -> None:
        """Send the 100 that a client waits for, once it is its request's turn (RFC 9110 section 10.1.1)."""
        exchange = self._reader.incomplete
        if exchange is not None and exchange.expects_continue and self._task is None and self._writable:
            exchange.expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hold_back(self) -> None:
        """Read only while nothing waits."""
        waits = bool(self._reader.exchanges or self._input)
        if waits != self._paused and not self._transport.is_closing():
            self._paused = waits
            if waits:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # --- Time and end.

    def _arm(self) -> None:
        """Set the deadline of what the connection waits for."""
        phase: Reading | _Waiting
        if self._task is not None:
            phase = _Waiting.HANDLING
        elif not self._writable:
            phase = _Waiting.BLOCKED
        else:
            phase = self._reader.reading
        if phase is not self._armed:
            self._set_deadline(phase)

    def _set_deadline(self, phase: Reading | _Waiting) -> None:
        self._armed = phase
        limits = self._server.limits
        if phase is _Waiting.HANDLING:
            self._server.deadlines.clear(self)
        elif phase in (_Waiting.BLOCKED, _Waiting.CLOSING):
            self._unsent = self._transport.get_write_buffer_size()
            seconds = limits.keep_alive_timeout if phase is _Waiting.BLOCKED else CLOSE_TIMEOUT
            self._server.deadlines.set(self, seconds)
        else:
            seconds = limits.keep_alive_timeout if phase is Reading.IDLE else limits.handshake_timeout
            self._server.deadlines.set(self, seconds)

    def _close(self, *, linger: bool) -> None:
        """Close when everything is sent; if `linger`, discard what the client still sends until it ends too."""
        self._done = True
        self._reader.exchanges.clear()
        self._input = b""
        if linger and self._transport.can_write_eof():
            self._transport.write_eof()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
        else:
            self._transport.close()
        self._set_deadline(_Waiting.CLOSING)

    def _leave(self) -> None:
        """Let go of the server and the reader: the connection is lost, or a WebSocket."""
        self._done = True
        self._server.deadlines.clear(self)
        self._server.http_connections.discard(self)
        self._reader.close()


# --- Refusals and logs.


def _explain(error: Exception, resource: Resource) -> Response:
    if isinstance(error, Refuse):
        return error.response
    logger.error("%s failed", resource.handler.label, exc_info=error)
    return error_response(500)


def _log(request: Request | None, status: int, size: int) -> None:
    if request is None:
        access_logger.info("- - %d %d", status, size)
    else:
        client = request.remote_address[0] if request.remote_address is not None else "-"
        line = f"{request.method} {request.raw_target.decode('latin-1')}"
        access_logger.info('%s "%s" %d %d', client, line, status, size)
