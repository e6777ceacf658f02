"""One HTTP/1.1 connection, from the first byte to the last response or to the WebSocket.

Theory of operation. A `RequestReader` makes exchanges of what comes in: requests, each with what is to answer it.
`_pump` is the one place where things happen: it answers the next exchange, or reads the next piece of input, until an
async handler runs, the client has to read first, or nothing is left. So responses keep the order of pipelined
requests, one request is handled at a time, and what waits is bounded: one piece of parsed requests, one read of raw
bytes, and then reading is paused.

Whatever a connection waits for has a deadline of its own (`_arm`): what is being read (`Reading`), and BLOCKED (the
client does not read), CLOSING (the last response is on its way) and UPGRADING (an async `on_upgrade` runs); HANDLING
(an async resource runs, or a disk is waited for) has none.

A file is sent by the same pump: a piece of it, and the next one when the client has taken all of that.

Bytes that are no HTTP, or too many, end the connection after a last response. Unread input would make the kernel reset
the connection and take that response along, so the end is said first (a FIN), and input is discarded until the client
ends too, for a bounded time.
"""

from __future__ import annotations

import asyncio
import enum
import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from .._speedups import shut_down
from ..errors import HandshakeError
from ..handshake.server import accept, check
from ..logs import Log
from ..net.limits import uncounted
from ..service.signature import is_awaitable
from .calls import ResourceCall
from .files import FileResponse
from .heads import RETRY_AFTER, encode_head, error_response
from .reader import Reading, RequestReader
from .response import Refuse, Response
from .upgrade import UpgradeCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..handshake.server import Accepted
    from ..service.model import Handler, Service
    from .reader import Exchange
    from .redaction import Redaction
    from .request import Request
    from .site import Site

__all__ = ["HttpProtocol"]

logger = Log("fastws.http")
access_logger = Log("fastws.access")

# How many requests of one client are answered until all others have had their turn; no more than a piece is read then.
A_TURN: Final = 8

# As much work as an answer (Turns).
INPUT_OF_ONE: Final = 1024  # bytes that are read
OUTPUT_OF_ONE: Final = 16384  # and that are written

FILE_PIECE: Final = 1 << 16  # bytes of a file that are read, and wait for the client, at a time

# How long a client may take to end a connection that we ended, or make no progress in reading the last response.
CLOSE_TIMEOUT: Final = 5.0  # seconds


_Call = ResourceCall | UpgradeCall


class _Waiting(enum.Enum):
    """Things to wait for besides what the client is to send (`Reading`)."""

    UPGRADING = enum.auto()
    HANDLING = enum.auto()
    BLOCKED = enum.auto()
    CLOSING = enum.auto()


class _Upgrading(NamedTuple):
    """An async `on_upgrade` that has to decide still."""

    label: str
    timeout: float | None


class _Download:
    """A file on its way, and whether another request may follow it."""

    __slots__ = ("file", "keep_alive", "left", "position")

    def __init__(self, response: FileResponse, keep_alive: bool) -> None:
        self.file = response.file
        self.position = response.start
        self.left = response.length
        self.keep_alive = keep_alive


class HttpProtocol(asyncio.Protocol):
    """The protocol of an accepted connection until it closes or becomes a WebSocket.

    Args:
        site: what it shares with all others.
        address: host and port of the peer where the transport does not know them: what a PROXY protocol header told.
        secure: whether it speaks TLS, where the transport does not know that: likewise.
    """

    __slots__ = (
        "_address",
        "_armed",
        "_behind_proxy",
        "_done",
        "_download",
        "_exchange",
        "_input",
        "_lost",
        "_paused",
        "_reader",
        "_reading_file",
        "_release",
        "_secure",
        "_site",
        "_task",
        "_transport",
        "_unsent",
        "_upgrading",
        "_waits",
        "_writable",
    )

    _transport: asyncio.Transport
    _reader: RequestReader
    _release: Callable[[], None]  # gives back the place of the connection

    def __init__(self, site: Site, address: tuple[str, int] | None = None, secure: bool | None = None) -> None:
        self._site = site
        self._address = address
        self._secure = secure
        self._behind_proxy = False  # a trusted one that tells in each request whom it speaks for
        # What the deadline that is set is for (None: it is to be set anew).
        self._armed: Reading | _Waiting | None = None
        # Raw input that is not read yet.
        self._input = b""
        # The async handler that runs, what it is to answer, and what is known of it if it is an `on_upgrade`.
        self._task: asyncio.Future[Any] | None = None
        self._exchange: Exchange | None = None
        self._upgrading: _Upgrading | None = None
        self._download: _Download | None = None
        self._reading_file = False  # in a thread
        self._paused = False
        self._writable = True
        self._waits = False  # for a turn
        self._unsent = 0
        # The last response is written, the connection is lost, or it is a WebSocket now.
        self._done = False
        self._lost = False

    # --- The transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the clock for the first request runs from here."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer is None:
            # It is gone already, and who it was nobody can say: it must not pass for a client that has no address
            self._transport.abort()
            return
        release = self._site.admit(self._transport, self._address)
        if release is None:
            return
        self._release = release
        self._reader = self._make_reader(peer)
        self._site.http_connections.add(self)
        self._site.limits.begin_handshake(self)
        if self._site.closing:  # accepted just before the server stopped to listen
            self.shutdown()
            return
        self._arm()

    def _make_reader(self, peer: Any) -> RequestReader:
        site, address = self._site, self._address
        if address is None:
            # A Unix socket has no such address; that of IPv6 has two fields more.
            address = (peer[0], peer[1]) if isinstance(peer, tuple) else None
        certificate = None
        secure = self._secure
        if self._transport.get_extra_info("sslcontext") is not None:
            certificate = self._transport.get_extra_info("peercert") or None
            secure = secure is not False
        self._behind_proxy = site.proxies is not None and site.proxies.trusts(address)
        proxies = site.proxies if self._behind_proxy else None
        return RequestReader(site.options, site.router, address, certificate, "https" if secure else "http", proxies)

    def data_received(self, data: bytes) -> None:
        """Take input; what comes after the last response is discarded."""
        if not self._done:
            self._input = self._input + data if self._input else data
            self._pump()

    def connection_lost(self, error: Exception | None) -> None:
        """End: the client has left, so that nobody wants the result of a handler that still runs."""
        shut_down(self._transport)
        if self not in self._site.http_connections:
            return
        task, answered = self._task, self._done
        self._lost = True
        self._release()
        if task is None:
            self._leave()
            return
        # It belongs to the server until its handler has ended, which `on_stop` waits for.
        self._done = True
        self._site.deadlines.clear(self)
        if not answered:
            task.cancel()

    def pause_writing(self) -> None:
        """Stop answering: the client has to read first."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on answering, in a later turn: asyncio's transports lose a connection twice that ends in here."""
        self._writable = True
        self._wait_for_turn()

    # The default eof_received closes the connection: who half-closes it while a resource runs counts as gone, because
    # nothing tells the two apart.

    # --- The server calls.

    def shutdown(self) -> None:
        """Close the connection after the response to the request that is being handled, or at once if there is none.

        An `on_upgrade` is not waited for: what it prepares would end at once.
        """
        if self._upgrading is not None:
            self._cancel()
        elif self._task is None and self._download is None and not self._done:
            self._close(linger=False)

    def give_up(self) -> None:
        """End the connection now: the handler that still runs is cancelled, and its client told that it failed."""
        if self._task is not None and not self._done:
            self._cancel()
            if not self._transport.get_write_buffer_size():
                if not self._transport.is_closing():
                    self._transport.close()
                return
        self._transport.abort()

    def on_deadline(self) -> None:
        """Drop a client that is too slow, or refuse one whose `on_upgrade` is."""
        if self._upgrading is not None:
            label, timeout = self._upgrading
            self._cancel()
            logger.warning("%s took longer than %s seconds (upgrade_timeout) and is cancelled", label, timeout)
            return
        if self._armed in (_Waiting.BLOCKED, _Waiting.CLOSING):
            unsent = self._transport.get_write_buffer_size()
            if 0 < unsent != self._unsent:
                # It reads slowly, but it reads.
                self._set_deadline(self._armed)
                return
        self._transport.abort()

    # --- Answering.

    def _pump(self) -> None:
        """Answer and read in turns, until somebody else has to do something first, or is to have a turn, too."""
        reader = self._reader
        turns = self._site.turns
        answers, pieces = A_TURN, 1
        while self._task is None and self._writable and not self._done and not self._reading_file:
            answering = bool(self._download or reader.exchanges)
            if not answering and (not self._input or reader.reading is Reading.ENDED):
                break
            if not turns.has_room() or not (answers if answering else pieces):
                self._wait_for_turn()
                break
            if self._download is not None:
                answers -= 1
                self._armed = None
                self._read_file(self._download)
            elif reader.exchanges:
                answers -= 1
                self._armed = None
                self._answer(reader.exchanges.popleft())
                turns.spend(1)
            else:
                pieces -= 1
                length = len(self._input)
                self._input = reader.feed(self._input)
                turns.spend((length - len(self._input)) // INPUT_OF_ONE)
        if not self._done:
            self._invite_body()
            self._hold_back()
            self._arm()

    def _wait_for_turn(self) -> None:
        if not self._waits:
            self._waits = True
            self._site.turns.wait(self._go_on)

    def _go_on(self) -> None:
        self._waits = False
        self._pump()

    def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if exchange.response is not None or request is None:
            self._send(exchange, exchange.response or error_response(400))
        elif exchange.service is not None:
            self._upgrade(exchange, exchange.service, request)
        elif exchange.resource is not None:
            self._call(exchange, ResourceCall(exchange.resource, request))

    def _upgrade(self, exchange: Exchange, service: Service, request: Request) -> None:
        if self._site.refuses_upgrades:
            self._send(exchange, error_response(503, retry_after=self._site.retry_after()))
            return
        assert service.upgrade is not None
        try:
            opening = check(request, service.upgrade)
        except HandshakeError as error:
            self._send(exchange, _refusal(error))
            return
        if self._behind_proxy and not self._take_place(exchange, request):
            return
        handler = service.handlers.get("on_upgrade")
        if handler is None:
            self._open(service, request, accept(opening))
            return
        self._call(exchange, UpgradeCall(service, handler, opening, request))
        if self._task is not None:
            self._upgrading = _Upgrading(handler.label, service.upgrade.upgrade_timeout)

    def _take_place(self, exchange: Exchange, request: Request) -> bool:
        """Count a WebSocket for the client that the proxy speaks for; the proxy itself is not counted."""
        self._release()  # an earlier attempt on the same connection may have taken one
        address = request.remote_address
        release = self._site.limits.enter(None if address is None else address[0])
        self._release = release or uncounted
        if release is None:
            self._send(exchange, error_response(429, retry_after=RETRY_AFTER))
        return release is not None

    def _open(self, service: Service, request: Request, accepted: Accepted) -> None:
        """Let go of a connection that is a WebSocket from here on."""
        rest, self._input = self._input, b""
        if self._site.options.access_log:
            _log(request, 101, 0, self._site.redaction)
        self._leave()
        if self._paused:
            self._transport.resume_reading()
        # A transport knows its own address, and costs less memory than we would
        address = request.remote_address if self._behind_proxy else self._address
        self._site.open_websocket(
            self._transport, service, request, accepted, rest, address=address, on_release=self._release
        )

    def _call(self, exchange: Exchange, call: _Call) -> None:
        """Call a handler, and await what it returns if that can be."""
        try:
            context = self._site.context_of(call.owner)
            result = self._site.slow_handlers.call(call.handler, context.run, call.run)
            if is_awaitable(result):
                task = self._task = context.run(asyncio.ensure_future, result)
                self._exchange = exchange
                # Not in the context of the task: what opens then has nothing to do with it.
                task.add_done_callback(functools.partial(self._finish, exchange, call))
                return
            outcome = call.conclude(result)
        except (Exception, asyncio.CancelledError) as error:
            outcome = _explain(error, call.handler)
        self._conclude(exchange, outcome)

    def _finish(self, exchange: Exchange, call: _Call, task: asyncio.Future[Any]) -> None:
        self._task = self._exchange = self._upgrading = None
        if self._lost:
            self._leave()
        if task.cancelled():
            if not self._done:
                # Neither the client nor we did that, and nothing is known that could be answered.
                self._transport.abort()
            return
        self._conclude(exchange, _outcome(task, call))
        self._pump()

    def _conclude(self, exchange: Exchange, outcome: Response | Accepted) -> None:
        if isinstance(outcome, Response):
            self._send(exchange, outcome)
        elif not self._done and not self._transport.is_closing():
            assert exchange.service is not None
            assert exchange.request is not None
            self._open(exchange.service, exchange.request, outcome)

    def _cancel(self) -> None:
        """Answer in place of an async handler that takes too long, or longer than the server lives."""
        assert self._task is not None
        assert self._exchange is not None
        self._task.cancel()
        self._upgrading = None
        self._send(self._exchange, error_response(503))

    def _send(self, exchange: Exchange, response: Response) -> None:
        if self._done:
            return
        request = exchange.request
        keep_alive = exchange.keep_alive and self._site.is_ready
        is_head = request is not None and request.method == "HEAD"
        length = response.length
        head = encode_head(
            response,
            None if is_head and not length else length,
            keep_alive,
            old=request is not None and request.http_version == "1.0",
            further=() if exchange.cors is None or request is None else exchange.cors.fields(request, response),
        )
        if isinstance(response, FileResponse):
            self._transport.write(head)
            if length and not is_head:
                self._download = _Download(response, keep_alive)
                # Tell us when it has taken all of a piece. Not 0: over TLS asyncio's pauses then where nothing waits
                self._transport.set_write_buffer_limits(high=1)
        elif length and not is_head:
            # Not writelines: asyncio's of CPython 3.12 and 3.13.0 never tells us to pause
            self._transport.write(head + response.body)
            self._site.turns.spend(length // OUTPUT_OF_ONE)
        else:
            self._transport.write(head)
        if self._site.options.access_log:
            _log(request, response.status, length, self._site.redaction)
        if not keep_alive and self._download is None:
            self._end()

    def _end(self) -> None:
        """Close after the last response."""
        unread = self._reader.reading is not Reading.IDLE or self._input or self._reader.exchanges
        self._close(linger=bool(unread))

    def _read_file(self, download: _Download) -> None:
        """Send the next piece of a file, now if the kernel has it in memory."""
        if self._transport.is_closing():
            self._download = None
            return
        length = min(download.left, FILE_PIECE)
        piece = download.file.read_cached(download.position, length)
        if piece is not None:
            self._send_piece(download, piece)
            return
        self._reading_file = True
        reading = self._site.loop.run_in_executor(None, download.file.read, download.position, length)
        reading.add_done_callback(functools.partial(self._file_read, download))

    def _file_read(self, download: _Download, reading: asyncio.Future[bytes]) -> None:
        self._reading_file = False
        failure = asyncio.CancelledError() if reading.cancelled() else reading.exception()
        if self._done or self._transport.is_closing():
            self._download = None
        elif failure is not None:
            self._transport.abort()
            logger.error("a file could not be read: %s", repr(failure))
        else:
            self._send_piece(download, reading.result())
            self._pump()

    def _send_piece(self, download: _Download, piece: bytes) -> None:
        if not piece:
            # It has become shorter, and what was announced cannot be sent any more
            self._download = None
            self._transport.abort()
            return
        self._transport.write(piece)
        self._site.turns.spend(len(piece) // OUTPUT_OF_ONE)
        download.position += len(piece)
        download.left -= len(piece)
        if not download.left:
            self._download = None
            if not download.keep_alive or not self._site.is_ready:
                self._end()

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
        if self._upgrading is not None:
            phase = _Waiting.UPGRADING
        elif self._task is not None or self._reading_file:
            phase = _Waiting.HANDLING
        elif not self._writable:
            phase = _Waiting.BLOCKED
        else:
            phase = self._reader.reading
        if phase is not self._armed:
            self._set_deadline(phase)

    def _set_deadline(self, phase: Reading | _Waiting) -> None:
        self._armed = phase
        if phase is not Reading.HEAD:
            self._site.limits.end_handshake(self)
        if phase in (_Waiting.BLOCKED, _Waiting.CLOSING):
            self._unsent = self._transport.get_write_buffer_size()
        seconds = self._seconds(phase)
        if seconds is None:
            self._site.deadlines.clear(self)
        else:
            self._site.deadlines.set(self, seconds)

    def _seconds(self, phase: Reading | _Waiting) -> float | None:
        if phase is _Waiting.HANDLING:
            return None
        if phase is _Waiting.CLOSING:
            return CLOSE_TIMEOUT
        if phase is _Waiting.UPGRADING:
            return None if self._upgrading is None else self._upgrading.timeout
        options = self._site.options
        seconds: float = options.handshake_timeout
        if phase in (Reading.IDLE, _Waiting.BLOCKED):
            seconds = options.keep_alive_timeout
        return seconds

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
        elif not self._transport.is_closing():
            # Once only: asyncio's over TLS is of no use any more after a second time
            self._transport.close()
        self._set_deadline(_Waiting.CLOSING)

    def _leave(self) -> None:
        """Let go of the server and the reader: the connection is lost, or a WebSocket."""
        self._done = True
        self._download = None
        self._site.deadlines.clear(self)
        self._site.limits.end_handshake(self)
        self._site.left(self)
        self._reader.close()


# --- Refusals and logs.


def _refusal(error: HandshakeError) -> Response:
    response = Response(error.body.decode(), error.status)
    response.headers.extend(error.headers)
    return response


def _outcome(task: asyncio.Future[Any], call: _Call) -> Response | Accepted:
    # Not result(), which would raise it here: it would know this frame, which knows the task, which knows it
    failure = task.exception()
    if failure is not None:
        return _explain(failure, call.handler)
    try:
        return call.conclude(task.result())
    except Exception as error:
        return _explain(error, call.handler)


def _explain(error: BaseException, handler: Handler) -> Response:
    if isinstance(error, Refuse):
        return error.response
    logger.error("%s failed", handler.label, exc_info=error)
    return error_response(500)


def _log(request: Request | None, status: int, size: int, redaction: Redaction) -> None:
    if request is None:
        access_logger.info("- - %d %d", status, size)
    else:
        client = request.remote_address[0] if request.remote_address is not None else "-"
        line = f"{request.method} {redaction.redact(request.raw_target.decode('latin-1'))}"
        access_logger.info('%s "%s" %d %d', client, line, status, size)
