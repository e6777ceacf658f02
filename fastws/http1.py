"""One HTTP/1.1 connection, from the first byte to the last response or to the WebSocket.

Theory of operation. httptools (llhttp, strict) parses; its callbacks only note what they see and put each complete
request on the list of exchanges, they never answer. `_pump` is the one place where things happen: it answers the next
exchange, or parses the next piece of input, until an async resource runs, the client has to read first, or nothing is
left. So responses keep the order of pipelined requests, one request is handled at a time, and what waits is bounded:
one piece of parsed requests, one read of raw bytes, and then reading is paused.

::

    HEAD ──▶ BODY ──▶ IDLE ──▶ HEAD ...      what is being read (`_reading`)
      │        │
      └────────┴────▶ ENDED                  a WebSocket follows, or bytes that are no HTTP: nothing more is parsed

Each of these has a deadline of its own (`_arm`), and so have BLOCKED (the client does not read) and CLOSING (the last
response is on its way); HANDLING (an async resource runs) has none.

Bytes that are no HTTP, or too many, end the connection after a last response. Unread input would make the kernel reset
the connection and take that response along, so the end is said first (a FIN), and input is discarded until the client
ends too, for a bounded time.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from .errors import HandshakeError
from .handshake import has_token, respond
from .heads import encode_head, error_response, origin_form
from .http import Refuse, Request, Response, call, to_response

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine

    from .census import Census
    from .deadlines import Deadlines
    from .handshake import Accepted
    from .service import Match, Resource, Router, Service

__all__ = ["HttpLimits", "HttpProtocol", "Server"]

logger = logging.getLogger("fastws.http")
access_logger = logging.getLogger("fastws.access")

# How much is parsed at a time: llhttp cannot be stopped between two requests, so this bounds how many can wait.
PIECE: Final = 1 << 16  # bytes

# How long a client may take to end a connection that we ended, or make no progress in reading the last response.
CLOSE_TIMEOUT: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a client may send, and how long it may take.

    Attributes:
        max_head_size: bytes of the request line and all header fields.
        max_head_fields: header fields of a request.
        max_body_size: bytes of a body.
        handshake_timeout: seconds until a head is complete, and again until its body is.
        keep_alive_timeout: seconds that a connection may idle between two requests.
    """

    max_head_size: int = 16384
    max_head_fields: int = 128
    max_body_size: int = 1 << 20
    handshake_timeout: float = 10.0
    keep_alive_timeout: float = 75.0


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

    @property
    def census(self) -> Census:
        """The count of handshakes."""

    def admit(self, transport: asyncio.Transport, address: tuple[str, int] | None) -> Callable[[], None] | None:
        """Give a new connection a place: return what gives it back, or None if the transport has been turned away."""

    def open_websocket(
        self,
        transport: asyncio.Transport,
        service: Service,
        request: Request,
        accepted: Accepted,
        rest: bytes,
        *,
        address: tuple[str, int] | None,
        on_release: Callable[[], None],
    ) -> None:
        """Take over a transport and the place that it has: send the response, and read `rest` before what comes."""


class _Phase(enum.Enum):
    HEAD = enum.auto()
    BODY = enum.auto()
    IDLE = enum.auto()
    ENDED = enum.auto()
    HANDLING = enum.auto()
    BLOCKED = enum.auto()
    CLOSING = enum.auto()


class _Exchange:
    """A request and what answers it: a response that is known already, a service's WebSocket, or a resource."""

    __slots__ = ("body", "body_size", "expects_continue", "keep_alive", "request", "resource", "response", "service")

    def __init__(self, request: Request | None, keep_alive: bool, response: Response | None = None) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.response = response
        self.service: Service | None = None
        self.resource: Resource | None = None
        self.body: list[bytes] = []
        self.body_size = 0
        self.expects_continue = False


class _Stop(Exception):
    """Raised in a callback, makes the parser stop; the response is in `HttpProtocol._fault`."""


class HttpProtocol(asyncio.Protocol):
    """The protocol of an accepted connection until it closes or becomes a WebSocket.

    Args:
        server: see `Server`.
        address: host and port of the client as the PROXY protocol told them; None where the transport knows.
    """

    __slots__ = (
        "_address",
        "_armed",
        "_done",
        "_exchange",
        "_fault",
        "_foreign_upgrade",
        "_head_size",
        "_headers",
        "_input",
        "_parser",
        "_paused",
        "_pending",
        "_reading",
        "_release",
        "_server",
        "_target",
        "_task",
        "_transport",
        "_undigested",
        "_unsent",
        "_upgrade",
        "_writable",
    )

    _transport: asyncio.Transport
    _parser: HttpRequestParser
    _release: Callable[[], None]  # gives back the place of the connection

    def __init__(self, server: Server, address: tuple[str, int] | None = None) -> None:
        self._server = server
        self._address = address
        # What is being read, and the deadline that is set (None: it is to be set anew).
        self._reading = _Phase.HEAD
        self._armed: _Phase | None = None
        # Raw input that is not parsed yet, and bytes that the parser took without telling us anything.
        self._input = b""
        self._undigested = 0
        # The head that is being read.
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._upgrade = b""
        self._foreign_upgrade = False
        # The exchange whose body is being read, those that wait for their turn, and the task of the one that runs.
        self._exchange: _Exchange | None = None
        self._pending: deque[_Exchange] = deque()
        self._task: asyncio.Task[None] | None = None
        self._fault: Response | None = None
        self._paused = False
        self._writable = True
        self._unsent = 0
        # The last response is written, the connection is lost, or it is a WebSocket now.
        self._done = False

    # --- The transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the clock for the first request runs from here."""
        self._transport = cast("asyncio.Transport", transport)
        release = self._server.admit(self._transport, self._address)
        if release is None:
            return
        self._release = release
        self._parser = HttpRequestParser(self)
        self._server.http_connections.add(self)
        self._server.census.begin_handshake(self)
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
            self._release()
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
        if self._armed in (_Phase.BLOCKED, _Phase.CLOSING):
            unsent = self._transport.get_write_buffer_size()
            if 0 < unsent != self._unsent:
                # It reads slowly, but it reads.
                self._set_deadline(self._armed)
                return
        self._transport.abort()

    # --- The parser calls. Nothing is answered here: exceptions of a callback end the parser.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._reading is _Phase.IDLE:
            self._reading = _Phase.HEAD
        self._target = b""
        self._headers = []
        self._head_size = 0
        self._upgrade = b""

    def on_url(self, part: bytes) -> None:
        """Take the request target, or a part of it."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; trailer fields are read and dropped."""
        if self._reading is not _Phase.HEAD:
            return
        name = name.lower()
        self._headers.append((name, value.rstrip(b" \t")))
        self._head_size += len(name) + len(value) + 4
        if name == b"upgrade":
            self._upgrade = self._upgrade + b"," + value if self._upgrade else value

    def on_headers_complete(self) -> None:
        """Decide what answers the request, or refuse it before its body is read."""
        parser = self._parser
        self._undigested = 0
        self._reading = _Phase.BODY
        self._check_size()
        method = parser.get_method().decode()
        upgrading = parser.should_upgrade()
        if upgrading and not has_token(self._upgrade.rstrip(b" \t"), b"websocket"):
            self._ignore_upgrade(method)
            return
        request = self._make_request(method)
        exchange = self._exchange = _Exchange(request, keep_alive=not upgrading and parser.should_keep_alive())
        if not upgrading:
            self._check_framing(exchange, request)
        self._route(exchange, request, upgrading)
        if exchange.expects_continue and exchange.response is not None:
            self._stop(exchange.response)

    def on_chunk_header(self) -> None:
        """Note that the body makes progress."""
        self._undigested = 0

    def on_body(self, data: bytes) -> None:
        """Take a part of a body; without a resource it is only counted."""
        exchange = self._exchange
        assert exchange is not None
        self._undigested = 0
        exchange.expects_continue = False
        exchange.body_size += len(data)
        if exchange.body_size > self._server.limits.max_body_size:
            self._stop(error_response(413))
        if exchange.resource is not None:
            exchange.body.append(data)

    def on_message_complete(self) -> None:
        """Put the request on the list."""
        exchange = self._exchange
        if exchange is None:  # _ignore_upgrade
            return
        if exchange.body and exchange.request is not None:
            exchange.request.body = b"".join(exchange.body)
        self._pending.append(exchange)
        self._exchange = None
        self._undigested = 0
        self._reading = _Phase.IDLE
        self._armed = None

    # --- Reading.

    def _check_size(self) -> None:
        # A head that is not complete yet is bounded by `_undigested`, so that its fields are not counted one by one.
        # 17 is what a usual head has besides: "GET", two blanks, the version and two line ends.
        limits = self._server.limits
        size = self._head_size + len(self._target) + 17
        if size > limits.max_head_size or len(self._headers) > limits.max_head_fields:
            self._stop(error_response(431))

    def _stop(self, response: Response) -> NoReturn:
        self._fault = response
        raise _Stop

    def _make_request(self, method: str) -> Request:
        target = origin_form(self._target)
        if target is None:
            self._stop(error_response(400))
        peer = self._transport.get_extra_info("peername")
        # A Unix socket has no such address; that of IPv6 has two fields more.
        address = self._address or ((peer[0], peer[1]) if isinstance(peer, tuple) else None)
        return Request(method, target, self._headers, self._parser.get_http_version(), address)

    def _ignore_upgrade(self, method: str) -> None:
        """Drop the Upgrade of a protocol that we do not speak, as a server may (RFC 9110 section 7.8).

        The parser takes everything behind such a head for the new protocol, also the body of a POST, so another parser
        gets the same head without the field (`_parse`).
        """
        if method == "CONNECT":
            self._stop(error_response(501))
        self._foreign_upgrade = True

    def _head_without_upgrade(self) -> bytes:
        line = b"%b %b HTTP/%b" % (
            self._parser.get_method(),
            self._target,
            self._parser.get_http_version().encode(),
        )
        fields = (name + b": " + value for name, value in self._headers if name != b"upgrade")
        return b"\r\n".join((line, *fields, b"", b""))

    def _check_framing(self, exchange: _Exchange, request: Request) -> None:
        """Refuse what could be understood in two ways (RFC 9112 sections 3.2 and 6), and bodies that are too large."""
        if request.http_version not in ("1.1", "1.0"):
            self._stop(error_response(505))
        hosts = 0
        has_body = False
        for name, value in request.raw_headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                size = int(value)
                has_body = size > 0
                if size > self._server.limits.max_body_size:
                    self._stop(error_response(413))
            elif name == b"transfer-encoding":
                has_body = True
                if request.http_version == "1.0":
                    self._stop(error_response(400))
                if value.lower() != b"chunked":
                    self._stop(error_response(501))
            elif name == b"expect" and request.http_version == "1.1":
                if value.lower() != b"100-continue":
                    self._stop(error_response(417))
                exchange.expects_continue = True
        if hosts != 1 and (hosts or request.http_version == "1.1"):
            self._stop(error_response(400))
        exchange.expects_continue = exchange.expects_continue and has_body

    def _route(self, exchange: _Exchange, request: Request, upgrading: bool) -> None:
        matches = self._server.router.resolve(request.raw_path)
        method = request.method
        for route, values in matches:
            service, resources = route.upgrade, route.resources
            if service is not None and (upgrading or self._wants_websocket(method, resources)):
                exchange.service = service
                names = service.upgrade_path.names if service.upgrade_path is not None else ()
            elif not upgrading and (resource := resources.get("GET" if method == "HEAD" else method)) is not None:
                exchange.resource = resource
                names = resource.path.names
            else:
                continue
            if values:
                request.path_parameters = dict(zip(names, values, strict=True))
            return
        exchange.response = error_response(404) if upgrading or not matches else _method_not_allowed(matches)

    def _wants_websocket(self, method: str, resources: dict[str, Resource]) -> bool:
        """Tell whether a request that is no complete Upgrade is meant for the WebSocket; its handshake says why not."""
        return has_token(self._upgrade, b"websocket") or (method == "GET" and "GET" not in resources)

    def _parse(self, piece: bytes) -> None:
        self._undigested += len(piece)
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._input = piece[upgrade.args[0] :] + self._input
            if self._foreign_upgrade:
                self._input = self._head_without_upgrade() + self._input
                self._parser = HttpRequestParser(self)
                self._foreign_upgrade = False
                self._reading = _Phase.HEAD
            else:
                self._reading = _Phase.ENDED
        except HttpParserError as error:
            self._end(self._explain_stop(error))
        else:
            if self._undigested > self._server.limits.max_head_size:
                # A head, a chunk header or a trailer that does not end.
                self._end(error_response(431))

    def _explain_stop(self, error: HttpParserError) -> Response:
        if self._fault is not None:
            return self._fault
        if isinstance(error, HttpParserCallbackError):
            logger.error("a callback of the HTTP parser failed", exc_info=error)
            return error_response(500)
        return error_response(400)

    def _end(self, response: Response) -> None:
        """Parse no more; after the responses that are due this one is the last, unless one of them is already."""
        request = self._exchange.request if self._exchange is not None else None
        self._reading = _Phase.ENDED
        if not self._pending or self._pending[-1].keep_alive:
            self._pending.append(_Exchange(request, False, response))

    # --- Answering.

    def _pump(self) -> None:
        """Answer and parse in turns, until somebody else has to do something first."""
        while self._task is None and self._writable and not self._done:
            if self._pending:
                self._answer(self._pending.popleft())
            elif self._input and self._reading is not _Phase.ENDED:
                piece, self._input = self._input[:PIECE], self._input[PIECE:]
                self._parse(piece)
            else:
                break
        if not self._done:
            self._invite_body()
            self._hold_back()
            self._arm()

    def _answer(self, exchange: _Exchange) -> None:
        request = exchange.request
        if exchange.response is not None or request is None:
            self._send(exchange, exchange.response or error_response(400))
        elif exchange.service is not None:
            self._upgrade_to(exchange, exchange.service, request)
        elif exchange.resource is not None:
            self._call(exchange, exchange.resource, request)

    def _upgrade_to(self, exchange: _Exchange, service: Service, request: Request) -> None:
        if self._server.closing:
            self._send(exchange, error_response(503))
            return
        assert service.upgrade is not None
        try:
            accepted = respond(request, service.upgrade)
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
        self._server.open_websocket(
            self._transport, service, request, accepted, rest, address=self._address, on_release=self._release
        )

    def _call(self, exchange: _Exchange, resource: Resource, request: Request) -> None:
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

    async def _finish(self, exchange: _Exchange, resource: Resource, result: Coroutine[Any, Any, object]) -> None:
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

    def _send(self, exchange: _Exchange, response: Response) -> None:
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
            unread = self._reading is not _Phase.IDLE or self._input or self._pending
            self._close(linger=bool(unread))

    def _invite_body(self) -> None:
        """Send the 100 that a client waits for, once it is its request's turn (RFC 9110 section 10.1.1)."""
        exchange = self._exchange
        if exchange is not None and exchange.expects_continue and self._task is None and self._writable:
            exchange.expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hold_back(self) -> None:
        """Read only while nothing waits."""
        waits = bool(self._pending or self._input)
        if waits != self._paused and not self._transport.is_closing():
            self._paused = waits
            if waits:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # --- Time and end.

    def _arm(self) -> None:
        """Set the deadline of what the connection waits for."""
        if self._task is not None:
            phase = _Phase.HANDLING
        elif not self._writable:
            phase = _Phase.BLOCKED
        else:
            phase = self._reading
        if phase is not self._armed:
            self._set_deadline(phase)

    def _set_deadline(self, phase: _Phase) -> None:
        self._armed = phase
        if phase is not _Phase.HEAD:
            self._server.census.end_handshake(self)
        limits = self._server.limits
        if phase is _Phase.HANDLING:
            self._server.deadlines.clear(self)
        elif phase in (_Phase.BLOCKED, _Phase.CLOSING):
            self._unsent = self._transport.get_write_buffer_size()
            seconds = limits.keep_alive_timeout if phase is _Phase.BLOCKED else CLOSE_TIMEOUT
            self._server.deadlines.set(self, seconds)
        else:
            seconds = limits.keep_alive_timeout if phase is _Phase.IDLE else limits.handshake_timeout
            self._server.deadlines.set(self, seconds)

    def _close(self, *, linger: bool) -> None:
        """Close when everything is sent; if `linger`, discard what the client still sends until it ends too."""
        self._done = True
        self._pending.clear()
        self._input = b""
        if linger and self._transport.can_write_eof():
            self._transport.write_eof()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
        else:
            self._transport.close()
        self._set_deadline(_Phase.CLOSING)

    def _leave(self) -> None:
        """Let go of the server and the parser: the connection is lost, or a WebSocket."""
        self._done = True
        self._server.deadlines.clear(self)
        self._server.census.end_handshake(self)
        self._server.http_connections.discard(self)
        del self._parser  # it holds us by its callbacks


# --- Refusals and logs.


def _method_not_allowed(matches: tuple[Match, ...]) -> Response:
    methods = {method for match in matches for method in match.route.methods}
    response = error_response(405)
    response.headers.append((b"Allow", ", ".join(sorted(methods)).encode()))
    return response


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
