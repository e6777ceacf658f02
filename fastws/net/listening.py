"""Accept connections, and bring each as far as HTTP.

Theory of operation. The listening sockets are ours and stay open as long as the server does. What is accepted at them
gets a transport: one of the core's where the loop is uvloop and nothing comes before HTTP, else one of the loop's. A
short-lived task brings those as far as HTTP for whom something comes first: the header of the PROXY protocol, the TLS
handshake. So both can be counted, bounded and given up.

Descriptors run out (EMFILE, ENFILE, and no memory for a socket). Then accepting pauses, said once, and the clients wait
in the kernel's queue. A descriptor has the lowest number that is free, so a high number tells that few are left before
none is, and the application keeps a reserve for its files. While paused, and now and then while not, we look whether
there is room.

Where workers accept at the same sockets, each that has its share (`share.py`) stops to watch them for a moment, and
then looks whether anybody still waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import select
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from .._speedups import accept_connection
from ..logs import Log
from . import forking
from .proxy_protocol import MAX_HEADER_LENGTH, Header, MalformedHeaderError, read_header
from .share import STEP_BACK

if TYPE_CHECKING:
    from .._speedups import SocketTransport
    from ..options import ServerOptions
    from .deadlines import Deadlines
    from .limits import Limits
    from .share import Share
    from .tls import Tls

__all__ = ["Listener"]

logger = Log("fastws")

RESERVE: Final = 32  # descriptors that are left to the application
WATCH_INTERVAL: Final = 0.5  # seconds
HELD_UP: Final = 3600.0  # seconds; no handler holds up the loop for as long
ACCEPT_AT_ONCE: Final = 16  # connections, before others have their turn

_NOTHING_TOLD: Final = Header(0, None)

_Address = tuple[str, int] | None
_MakeProtocol = Callable[[_Address, "bool | None"], asyncio.Protocol]
_MakeTransport = Callable[[int, asyncio.Protocol], "SocketTransport"]


class Listener:
    """Accepts connections at listening sockets, and pauses while there are no descriptors for them.

    Args:
        sockets: listening and not blocking; whoever made them closes them.
        options: of the server.
        make_protocol: makes the protocol of a connection, given the client's address, and whether it speaks TLS, if
            a PROXY header told that.
        make_transport: makes a transport of the core's for a descriptor and a protocol; None if it cannot.
        tls: None for plain TCP.
        limits: counts connections that are on their way to HTTP.
        deadlines: limit how long that may take.
        share: of this worker, if others accept at the same sockets.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        options: ServerOptions,
        make_protocol: _MakeProtocol,
        make_transport: _MakeTransport | None,
        tls: Tls | None,
        limits: Limits,
        deadlines: Deadlines,
        share: Share | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        if tls is not None:
            make_transport = None
        self._opener = _Opener(self._loop, options, make_protocol, make_transport, tls, limits, deadlines)
        self._share = share
        self._on_readable: Callable[[socket.socket], None] = self._accept
        if share is not None:
            self._on_readable = functools.partial(self._accept_share, share)
            self._opener.on_ended = share.refresh
        self._stepped_back: asyncio.TimerHandle | None = None
        self._paused = False
        self._short = False  # from the first pause until accepting went well for a while
        self._ceiling = sys.maxsize  # the lowest number of a descriptor that tells of a shortage
        self._watching: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._has_room()
        self._start_accepting()
        self._watch_later()

    def stop(self) -> None:
        """Accept no more."""
        for timer in (self._watching, self._stepped_back):
            if timer is not None:
                timer.cancel()
        self._stop_accepting()
        if self._share is not None:
            self._share.end()

    def give_up(self) -> list[asyncio.Task[None]]:
        """Let go of connections that are on their way to HTTP; returns the tasks that end by that."""
        return self._opener.give_up()

    @property
    def openings(self) -> int:
        """How many connections are on their way to HTTP."""
        return self._opener.openings

    @property
    def has_openings(self) -> bool:
        """Whether something comes before HTTP, the PROXY protocol or TLS, so that `connected` wants to be told."""
        return not self._opener.opens_at_once

    def connected(self, transport: asyncio.BaseTransport) -> None:
        """Note that a connection has come as far as HTTP."""
        self._opener.connected(transport)

    def _start_accepting(self) -> None:
        for sock in self._sockets:
            self._loop.add_reader(sock, self._on_readable, sock)

    def _stop_accepting(self) -> None:
        for sock in self._sockets:
            # One that its owner has closed is watched no more, and says ValueError
            with contextlib.suppress(ValueError):
                self._loop.remove_reader(sock)

    def _accept(self, listening: socket.socket, most: int = ACCEPT_AT_ONCE) -> None:
        for _ in range(most):
            try:
                descriptor = accept_connection(listening.fileno())
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                self._pause(str(error))
                return
            self._opener.open(descriptor)
            if descriptor >= self._ceiling:
                self._pause("open files are near their limit")
                return

    def _accept_share(self, share: Share, listening: socket.socket) -> None:
        """Accept what is ours, and leave the rest to other workers."""
        room = share.room(self._loop.time())
        if room:
            self._accept(listening, min(room, ACCEPT_AT_ONCE))
            share.refresh()
        else:
            self._stop_accepting()
            self._stepped_back = self._loop.call_later(STEP_BACK, self._step_forward, share)

    def _step_forward(self, share: Share) -> None:
        waiting = select.poll()
        for sock in self._sockets:
            waiting.register(sock, select.POLLIN)
        if not waiting.poll(0):
            share.nobody_waits()
        if not self._paused:
            self._start_accepting()

    def _pause(self, reason: str) -> None:
        """Accept nothing until there is room for more."""
        if not self._paused:
            self._paused = True
            self._stop_accepting()
        if not self._short:
            self._short = True
            logger.warning("accepting pauses: %s", reason)

    def _watch_later(self) -> None:
        self._watching = self._loop.call_later(WATCH_INTERVAL, self._watch)

    def _watch(self) -> None:
        self._watch_later()
        if not self._has_room():
            self._pause("open files are near their limit")
        elif self._paused:
            self._paused = False
            self._start_accepting()
        elif self._short:
            self._short = False
            logger.info("accepting goes on")

    def _has_room(self) -> bool:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._ceiling = sys.maxsize if limit == resource.RLIM_INFINITY else limit - min(RESERVE, limit // 4)
        try:
            # A new socket: a duplicate would say nothing about what all processes of the system have open
            with socket.socket() as probe:
                return probe.fileno() < self._ceiling
        except OSError:
            return False


def _is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    return type(loop).__module__.partition(".")[0] == "uvloop"


# --- As far as HTTP.


class _Opener:
    """Brings accepted sockets as far as HTTP."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: ServerOptions,
        make_protocol: _MakeProtocol,
        make_transport: _MakeTransport | None,
        tls: Tls | None,
        limits: Limits,
        deadlines: Deadlines,
    ) -> None:
        self.loop = loop
        self.make_protocol = make_protocol
        self.make_transport = make_transport
        self.proxy_protocol = options.proxy_protocol
        self.opens_at_once = make_transport is not None and not options.proxy_protocol
        self._tls = tls
        self._timeouts = _tls_timeouts(loop, options)
        self._timeout = options.handshake_timeout
        self._limits = limits
        self._deadlines = deadlines
        self._openings: dict[int, _Opening] = {}  # by descriptor
        self.on_ended: Callable[[], None] | None = None

    @property
    def openings(self) -> int:
        return len(self._openings)

    @property
    def tls_options(self) -> dict[str, Any]:
        """Options that have a transport of the loop speak TLS, with the certificate of this moment."""
        return {} if self._tls is None else {"ssl": self._tls.context, **self._timeouts}

    def open(self, descriptor: int) -> None:
        if self.opens_at_once:
            self.connect(descriptor, None, None)
            return
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        forking.note(sock)
        opening = _Opening(self, sock)
        self._openings[descriptor] = opening
        self._deadlines.set(opening, self._timeout)
        self._limits.begin_handshake(opening)

    def connect(self, descriptor: int, address: _Address, secure: bool | None) -> None:
        """Begin with HTTP on a transport of the core's."""
        assert self.make_transport is not None
        try:
            transport = self.make_transport(descriptor, self.make_protocol(address, secure))
        except OSError as error:
            os.close(descriptor)
            logger.debug("a connection was not opened: %s", repr(error))
            return
        transport.start()

    def connected(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket") if self._openings else None
        descriptor = -1 if sock is None else sock.fileno()
        opening = self._openings.get(descriptor)
        if opening is not None:
            # The task ends a little later; meanwhile the connection must not be counted and limited twice
            self.ended(descriptor, opening)

    def ended(self, descriptor: int, opening: _Opening) -> None:
        self._deadlines.clear(opening)
        self._limits.end_handshake(opening)
        # Another connection may have the descriptor already
        if self._openings.get(descriptor) is opening:
            del self._openings[descriptor]
            if self.on_ended is not None:
                self.on_ended()

    def give_up(self) -> list[asyncio.Task[None]]:
        tasks = [opening.task for opening in self._openings.values()]
        for task in tasks:
            task.cancel()
        return tasks


def _tls_timeouts(loop: asyncio.AbstractEventLoop, options: ServerOptions) -> dict[str, float]:
    # Our deadline comes first. The loop's timer may come before it reads what the client sent while it was held up
    handshake_timeout = options.handshake_timeout + HELD_UP
    timeouts = {"ssl_handshake_timeout": handshake_timeout, "ssl_shutdown_timeout": options.close_timeout}
    if sys.version_info < (3, 11) and not _is_uvloop(loop):
        del timeouts["ssl_shutdown_timeout"]  # asyncio has none there
    return timeouts


class _Opening:
    """A connection on its way to HTTP."""

    __slots__ = ("_descriptor", "_handed_over", "_opener", "_sock", "task")

    def __init__(self, opener: _Opener, sock: socket.socket) -> None:
        self._opener = opener
        self._sock = sock
        self._descriptor = sock.fileno()
        self._handed_over = False  # a transport closes the socket
        self.task = opener.loop.create_task(self._open())
        self.task.add_done_callback(self._ended)

    def on_deadline(self) -> None:
        """Give it up."""
        self.task.cancel()

    async def _open(self) -> None:
        try:
            await self._hand_over()
        except (OSError, MalformedHeaderError) as error:
            # No TLS, another idea of certificates, gone: the client's fault, and anybody may cause it at any rate.
            # As text: a record that is kept would keep what the traceback knows, and that is all of the server
            logger.debug("a connection was not opened: %s", repr(error))
            # A future of asyncio's knows it, it knows the frames that it came through, and these know the future
            error.__traceback__ = None
        except Exception:
            logger.exception("a connection could not be opened")

    async def _hand_over(self) -> None:
        opener = self._opener
        _, address, secure = await self._read_proxy_header() if opener.proxy_protocol else _NOTHING_TOLD
        self._handed_over = True
        if opener.make_transport is not None:
            opener.ended(self._descriptor, self)  # from here on it is counted as a connection
            opener.connect(self._sock.detach(), address, secure)
            return
        make_protocol = functools.partial(opener.make_protocol, address, secure)
        await opener.loop.connect_accepted_socket(make_protocol, self._sock, **opener.tls_options)

    def _ended(self, _: asyncio.Task[None]) -> None:
        # Not in the task, which may be cancelled before it has begun
        self._opener.ended(self._descriptor, self)
        if not self._handed_over:
            with contextlib.suppress(OSError):  # it is gone already
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()

    async def _read_proxy_header(self) -> Header:
        """Take the PROXY header off the socket, and not a byte of what follows: it may be for TLS."""
        taken = b""
        while True:
            peeked = await self._peek(MAX_HEADER_LENGTH - len(taken))
            header = read_header(taken + peeked)
            # What is not the whole header is all header: left there, it would make the socket readable for ever
            length = len(peeked) if header is None else header.length - len(taken)
            taken += self._sock.recv(length)
            if header is not None and len(taken) == header.length:
                return header

    async def _peek(self, length: int) -> bytes:
        while True:
            try:
                data = self._sock.recv(length, socket.MSG_PEEK)
            except BlockingIOError:
                await self._readable()
                continue
            if not data:
                raise ConnectionResetError
            return data

    async def _readable(self) -> None:
        loop = self._opener.loop
        readable = loop.create_future()
        loop.add_reader(self._sock, _wake, readable)
        try:
            await readable
        finally:
            loop.remove_reader(self._sock)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
