"""One connection to one of an engine's servers, watched, and made again for ever.

An engine says what is said (`Speaker`, and a `Conversation` for each connection); a session does the rest::

    away ──dial──> greeting ──> subscribing, in slices ──PING, PONG──> up ──┬── lost ──> away
      ^               │                  │                             ^    │
      └─── back-off ──┴──────────────────┘                             └────┴── the server is leaving: the next
                                                                                connection first, this one after it

What is subscribed or unsubscribed while a connection is in the making is noted and comes last, whether another one is
up meanwhile or not. A server is dead when it has left two PINGs unanswered and says nothing else, also where TCP
acknowledges all that is sent; bytes that wait for one are bounded, and gone with it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

from ..logs import Log
from .address import Server

__all__ = [
    "Conversation",
    "ConversationError",
    "Session",
    "Speaker",
    "Wire",
    "cancelled",
    "reason_of",
    "wait_for",
]

GREETING_TIMEOUT: Final = 5.0  # seconds, to dial and to be let in
OPEN_TIMEOUT: Final = 5.0  # seconds that `open` waits for the first attempt
CLOSE_TIMEOUT: Final = 2.0  # seconds for what was published, and for what a server that is leaving has for us still
PING_INTERVAL: Final = 2.0  # seconds
PINGS_UNANSWERED: Final = 2  # of a dead server
LAST_PATIENCE: Final = 1.0  # seconds in which nothing comes from it after the last of them
MAX_PATIENCE: Final = 10  # times that something may come which is no answer
JITTER: Final = 0.1  # seconds, so that not all nodes come at the same moment
FIRST_BACK_OFF: Final = 0.1  # seconds, after a round of all servers in which none was to be had
MAX_BACK_OFF: Final = 2.0  # seconds
EYEBALLS_DELAY: Final = 0.25  # seconds until the next address of a name is tried beside the first (RFC 8305)
MAX_UNSENT: Final = 16 << 20  # bytes that wait for a server; more is not taken
MAX_WAITING: Final = 2 * MAX_UNSENT  # with subscriptions, which are always taken: a server that gets no further is left
SLICE: Final = 1000  # subjects that are sent in one go
LOW_WATER: Final = 1 << 16  # bytes that may wait still when the next slice follows
HANDOVER_TIME: Final = 1.0  # seconds in which messages come over both connections: in a cluster some are late

_OURS: Final = "an error of our own"

_T = TypeVar("_T")
_log = Log("fastws.backplane")


class ConversationError(Exception):
    """This connection is of no use; its text is the reason that users read."""


class Conversation(Protocol):
    """What is said on one connection, made by `Speaker.converse`."""

    def feed(self, data: bytes) -> None:
        """Take bytes that came; what it raises ends the connection."""

    async def greet(self) -> None:
        """Introduce ourselves until we are let in; it is cancelled after 5 s, and when the connection ends.

        Raises:
            ConversationError: we are not, and why.
        """

    def ping(self) -> bytes:
        """Return what a server answers in the order of all it gets; `feed` then calls `Wire.answered`."""

    def subscribing(self, subjects: Sequence[bytes]) -> bytes:
        """Return what subscribes to those of the subjects that are wanted now, and unsubscribes from the others."""


class Speaker(Protocol):
    """What a session asks its engine, and tells it."""

    async def servers(self) -> Sequence[Server]:
        """Return where to try, in this order; where we were last comes last in any case."""

    def converse(self, wire: Wire) -> Conversation:
        """Begin to talk over a connection that was made."""

    def subscriptions(self) -> Iterable[bytes]:
        """Return all subjects that this session is to be subscribed to."""

    def adopt(self, conversation: Conversation) -> None:
        """Note over which connection `Session.send` sends from now on; `up` follows if there was none."""

    def up(self) -> None:
        """Note that messages flow: connected, and every subscription in place."""

    def down(self, reason: str) -> None:
        """Note that none does, until `up`; told once more when the reason has become another."""


class Wire(asyncio.Protocol):
    """A connection to a server.

    Attributes:
        server: whom it leads to.
        conversation: what is said on it.
        lost: done once it is of no more use, with the reason.
        leaving: set when the server is about to go away.
    """

    conversation: Conversation

    def __init__(self, server: Server, converse: Callable[[Wire], Conversation]) -> None:
        self._loop = asyncio.get_running_loop()
        self.server = server
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.leaving = asyncio.Event()
        self._converse = converse
        self._transport: asyncio.Transport | None = None
        self._pings: collections.deque[asyncio.Future[None]] = collections.deque()  # without an answer
        self._heard = False  # of late
        self._corked: list[bytes] | None = None  # what is held back
        self._writable = asyncio.Event()
        self._writable.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    # --- For conversations.

    @property
    def is_secure(self) -> bool:
        """Whether it is TLS that is spoken."""
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is not None

    def write(self, data: bytes) -> None:
        """Send; behind the end of the connection it is dropped."""
        if self._corked is not None:
            self._corked.append(data)
        elif data and self._transport is not None and not self.lost.done():
            self._transport.write(data)
            if self.unsent > MAX_WAITING:
                self.fail("too much waits to be sent")

    def answered(self) -> None:
        """Note the answer to the oldest PING; one that nobody asked for means nothing."""
        if self._pings and not (ping := self._pings.popleft()).done():
            ping.set_result(None)

    def fail(self, reason: str) -> None:
        """End it at once."""
        if not self.lost.done():
            self.lost.set_result(reason)
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Have the session go to another server before this one cuts us off."""
        self.leaving.set()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on with TLS.

        Raises:
            OSError: the server's certificate is none that we trust, among others.
        """
        assert self._transport is not None
        transport = await self._loop.start_tls(self._transport, self, context, server_hostname=self.server.tls_name)
        assert transport is not None
        self._take(transport)

    # --- For the session.

    @property
    def unsent(self) -> int:
        """Bytes that wait for the server."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return waiting + sum(map(len, self._corked or ()))

    async def dial(self, tls: ssl.SSLContext | None) -> None:
        """Connect.

        Raises:
            OSError: nobody is there, or not whom TLS expects.
        """
        # uvloop tries one address after the other; where there is one, a race only leaves a socket behind if it ends
        # at the wrong moment
        eyeballs = isinstance(self._loop, asyncio.BaseEventLoop) and not self.server.has_address
        options: dict[str, Any] = {"happy_eyeballs_delay": EYEBALLS_DELAY} if eyeballs else {}
        if tls is not None:
            options.update(ssl=tls, server_hostname=self.server.tls_name)
        await self._loop.create_connection(lambda: self, self.server.host, self.server.port, **options)

    async def while_alive(self, awaitable: Awaitable[_T], timeout: float | None = None) -> _T:
        """Await something as long as there is a connection.

        Raises:
            ConversationError: it was lost.
            TimeoutError: that took too long.
        """
        try:
            return await wait_for(awaitable, timeout, self.lost)
        except asyncio.TimeoutError:
            if self.lost.done():
                raise ConversationError(self.lost.result()) from None
            raise

    async def barrier(self, timeout: float | None = None) -> None:
        """Wait until the server has seen all that was sent; raises as `while_alive` does."""
        await self.while_alive(self._ping(), timeout)

    async def has_room(self) -> None:
        """Wait until little waits to be sent; raises as `while_alive` does."""
        await self.while_alive(self._writable.wait())

    def watch(self) -> None:
        """Look from now on whether the server lives."""
        self._spawn(self._stay_alive())

    def retire(self) -> None:
        """End it once what is under way has come."""
        self._spawn(self._linger())

    async def end(self) -> None:
        """End it, and wait until nothing of it is left."""
        self.fail("we closed it")
        await self._ended.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cork(self) -> None:
        """Hold back what is written."""
        self._corked = []

    def uncork(self) -> None:
        """Let it go."""
        held, self._corked = self._corked or (), None
        self.write(b"".join(held))

    # --- What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the conversation."""
        self._take(transport)
        self.conversation = self._converse(self)

    def data_received(self, data: bytes) -> None:
        """Hand bytes over."""
        self._heard = True
        try:
            self.conversation.feed(data)
        except ConversationError as error:
            self.fail(str(error))
        except Exception as error:
            _log.error("what came from %s cannot be handled", self.server, exc_info=error)
            self.fail(_OURS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait."""
        self.fail("the server closed the connection" if exc is None else reason_of(exc))
        for task in self._tasks:
            task.cancel()
        self._ended.set()

    def pause_writing(self) -> None:
        """Note that much waits to be sent."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that little does."""
        self._writable.set()

    # --- By itself.

    def _take(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class
        transport.set_write_buffer_limits(high=LOW_WATER)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ping(self) -> asyncio.Future[None]:
        answer = self._loop.create_future()
        self._pings.append(answer)
        self.write(self.conversation.ping())
        return answer

    async def _stay_alive(self) -> None:
        while not self.lost.done():
            await asyncio.sleep(PING_INTERVAL)
            self._ping()
            if self._is_doubtful() and not await self._is_busy():
                self.fail("the server does not answer")

    def _is_doubtful(self) -> bool:
        return len(self._pings) >= PINGS_UNANSWERED

    async def _is_busy(self) -> bool:
        """Tell whether an answer comes still, behind much that was sent to us before it."""
        for _ in range(MAX_PATIENCE):
            self._heard = False
            await asyncio.sleep(LAST_PATIENCE)
            if not (self._heard and self._is_doubtful()):
                break
        return not self._is_doubtful()

    async def _linger(self) -> None:
        await asyncio.sleep(HANDOVER_TIME)
        with contextlib.suppress(ConversationError, asyncio.TimeoutError):
            await self.barrier(CLOSE_TIMEOUT)
        self.fail("we went to another server")


class Session:
    """Keeps a connection to one of an engine's servers.

    Args:
        speaker: the engine.
        name: what logs call it, without a secret.
        tls: for connections that begin with TLS; None without.
    """

    def __init__(self, speaker: Speaker, name: str, tls: ssl.SSLContext | None = None) -> None:
        self._speaker = speaker
        self._name = name
        self._tls = tls
        self._wire: Wire | None = None  # that is up
        self._former: Wire | None = None  # that was, and has messages for us still
        self._last: Server | None = None  # where we are, or were, or could not be
        self._changed: dict[bytes, None] | None = None  # subjects, while a connection is in the making
        self._reason: str | None = None  # why it is down, as it was told
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- For the engine.

    @property
    def is_up(self) -> bool:
        """Whether messages flow."""
        return self._wire is not None and not self._wire.lost.done()

    @property
    def room(self) -> int:
        """How many bytes may be sent; 0 while it is away."""
        return max(0, MAX_UNSENT - self._wire.unsent) if self._wire is not None and self.is_up else 0

    @property
    def has_room(self) -> bool:
        """Whether what a node publishes before it asks again fits, and as much once more."""
        return self.room >= MAX_UNSENT // 2

    def send(self, data: bytes) -> None:
        """Send what there was room for; while it is away that is dropped."""
        if self._wire is not None:
            self._wire.write(data)

    def changed(self, subject: bytes) -> None:
        """Note that a subject was subscribed or unsubscribed, of which `send` tells the server that is up."""
        if self._changed is not None:
            self._changed[subject] = None

    async def open(self) -> None:
        """Begin; returns after the first round of attempts, in 5 s at most."""
        self._task = asyncio.ensure_future(self._run())
        with contextlib.suppress(asyncio.TimeoutError):
            await wait_for(self._tried.wait(), OPEN_TIMEOUT)

    async def close(self) -> None:
        """End; the server has what was sent, if it takes that within 2 s."""
        wire, self._wire = self._wire, None
        if self._task is not None:
            await cancelled(self._task)
        if wire is not None:
            with contextlib.suppress(ConversationError, asyncio.TimeoutError):
                await wire.barrier(CLOSE_TIMEOUT)
        for ending in (wire, self._former):
            if ending is not None:
                await ending.end()

    # --- Round and round.

    async def _run(self) -> None:
        back_off = 0.0
        while True:
            try:
                self._tell_down(await self._live(await self._connect()))
                back_off = 0.0
            except Exception as error:
                self._give_up()
                self._tell_down(reason_of(error))
                back_off = min(max(2 * back_off, FIRST_BACK_OFF), MAX_BACK_OFF)
            await asyncio.sleep(back_off + JITTER * random.random())

    async def _live(self, wire: Wire) -> str:
        """Be up until no connection is left; returns why."""
        self._adopt(wire)
        self._reason = None
        self._tried.set()
        _log.info("backplane %s: connected to %s", self._name, wire.server)
        self._speaker.up()
        with contextlib.suppress(ConversationError):
            while True:
                await wire.while_alive(wire.leaving.wait())
                wire = await self._move(wire)
        self._wire = None
        return wire.lost.result()

    def _give_up(self) -> None:
        """Leave what is up, if the engine has failed to take it."""
        if self._wire is not None:
            self._wire.fail(_OURS)
            self._wire = None

    def _adopt(self, wire: Wire) -> None:
        changed, self._changed = self._changed or (), None
        wire.write(wire.conversation.subscribing(tuple(changed)))
        self._wire = wire
        self._speaker.adopt(wire.conversation)

    async def _move(self, wire: Wire) -> Wire:
        """Go from a server that is leaving to another, if there is one now; returns who is up."""
        await wire.while_alive(asyncio.sleep(JITTER * random.random()))
        try:
            successor = await wire.while_alive(self._connect())
        except Exception:
            await wire.while_alive(asyncio.sleep(FIRST_BACK_OFF))
            return wire
        _log.info("backplane %s: %s is leaving, went to %s", self._name, wire.server, successor.server)
        successor.cork()
        self._adopt(successor)
        self._former = wire
        # What was published here would else come behind what is published there
        with contextlib.suppress(ConversationError, asyncio.TimeoutError):
            await wire.barrier(CLOSE_TIMEOUT)
        successor.uncork()
        wire.retire()
        return successor

    def _tell_down(self, reason: str) -> None:
        self._tried.set()
        if reason != self._reason:
            self._reason = reason
            _log.warning("backplane %s: away: %s", self._name, reason)
            try:
                self._speaker.down(reason)
            except Exception as error:
                _log.error("the backplane failed", exc_info=error)

    # --- A connection in the making.

    async def _connect(self) -> Wire:
        """Try all servers once.

        Raises:
            Exception: none was to be had, and why.
        """
        reasons: dict[str, None] = {}  # the same one is told once
        for server in await self._candidates():
            wire = await self._try(server, reasons)
            if wire is not None:
                return wire
        raise ConversationError("; ".join(sorted(reasons)) or "no server is known")

    async def _candidates(self) -> list[Server]:
        servers = await wait_for(self._speaker.servers(), GREETING_TIMEOUT)
        return sorted(servers, key=lambda server: server == self._last)

    async def _try(self, server: Server, reasons: dict[str, None]) -> Wire | None:
        try:
            return await self._make(server)
        except Exception as error:
            reason = reason_of(error)
            reasons[reason] = None
            _log.debug("backplane %s: %s cannot be used: %s", self._name, server, reason)
            return None

    async def _make(self, server: Server) -> Wire:
        self._last = server
        wire = Wire(server, self._speaker.converse)
        deadline = asyncio.get_running_loop().time() + GREETING_TIMEOUT
        try:
            await wire.while_alive(wire.dial(self._tls), GREETING_TIMEOUT)
            await wire.while_alive(wire.conversation.greet(), deadline - asyncio.get_running_loop().time())
            wire.watch()
            await self._subscribe(wire)
        except BaseException:
            self._changed = None
            wire.fail("it was given up")
            raise
        return wire

    async def _subscribe(self, wire: Wire) -> None:
        """Subscribe to all, then to what changed meanwhile; what changes during that and the barrier `_adopt` takes."""
        self._changed = {}
        await self._send_in_slices(wire, self._speaker.subscriptions())
        changed, self._changed = self._changed, {}
        await self._send_in_slices(wire, changed)
        await wire.barrier()

    async def _send_in_slices(self, wire: Wire, subjects: Iterable[bytes]) -> None:
        left = iter(subjects)
        while some := tuple(itertools.islice(left, SLICE)):
            wire.write(wire.conversation.subscribing(some))
            await wire.has_room()
            await asyncio.sleep(0)


async def wait_for(awaitable: Awaitable[_T], timeout: float | None, *ends: asyncio.Future[Any]) -> _T:
    """Await as long as `timeout`, and until one of `ends` is done.

    That of asyncio loses a cancellation that comes together with the result, before Python 3.12.

    Raises:
        TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait((task, *ends), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        await cancelled(task)
    raise asyncio.TimeoutError


async def cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel, and wait until it has ended; how it has, nobody asks any more."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


def reason_of(error: BaseException) -> str:
    """Return what to tell of an error; never more than that, since users see it."""
    if isinstance(error, ConversationError):
        return str(error)
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, OSError):
        known = error.errno is not None and error.errno > 0  # an errno of a resolver is negative
        return (os.strerror(error.errno or 0) if known else error.strerror or str(error)).lower()
    _log.error("the backplane failed", exc_info=error)
    return _OURS
