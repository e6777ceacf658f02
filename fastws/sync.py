"""The client for programs without an event loop: scripts, notebooks, threads.

::

    import fastws.sync

    with fastws.sync.connect("wss://example.com/chat") as connection:
        connection.send("hello")
        for message in connection:
            print(message)

All blocking connections of a process live on one event loop, in a thread of its own that begins with the first of them
and ends with the interpreter. So they answer pings whatever the program does, several threads may use one, and a loop
that runs in the calling thread, as in Jupyter, does not matter. Ctrl-C interrupts whatever waits, and loses no message.
"""

from __future__ import annotations

import asyncio
import collections
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .client.background import Background
from .client.connect import connect as connect_on_loop
from .errors import CallTimeoutError, ConfigurationError, ConnectionClosed
from .options import ConnectOptions, takes

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ._speedups import ClientConnection

__all__ = ["Connection", "connect"]

MAX_TIMEOUT: Final = 1e9  # seconds, thirty years: loops count in milliseconds, and not all of them to infinity

_T = TypeVar("_T")


@takes(ConnectOptions)
def connect(url: str, **options: Unpack[ConnectOptions]) -> Connection:
    """Connect to a server, and block until the connection is open.

    Args:
        url: as for `fastws.connect`, as are all options.

    Raises:
        ConfigurationError: the URL or an option is wrong.
        ConnectError: the connection does not come about.
    """
    there = Background.shared()
    return Connection(there, there.call("connect", lambda: _open(url, options), _drop))


async def _open(url: str, options: ConnectOptions) -> _Receiver:
    return _Receiver(await connect_on_loop(url, **options))


class _Receiver:
    """What lives on the loop: the connection, and messages that came for somebody who was interrupted."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._turn = asyncio.Lock()
        self._kept: collections.deque[str | bytes] = collections.deque()

    async def receive(self) -> str | bytes:
        # The core has one task wait at a time; here several threads may
        async with self._turn:
            return self._kept.popleft() if self._kept else await self.connection.receive()

    def keep(self, message: str | bytes) -> None:
        self._kept.append(message)

    async def end(self, there: Background, code: int, reason: str) -> None:
        await self.connection.close(code, reason)
        there.forget(self.close)

    async def close(self) -> None:
        await self.connection.close(1001)


class Connection:
    """A connection to a server whose methods block; made by `fastws.sync.connect`.

    Its methods may be called from several threads; each message is received by one of them. ``for message in
    connection`` ends when the connection is closed with 1000 or 1001, by whichever side, and raises `ConnectionClosed`
    with any other code. A ``with`` closes it at its end, with 1000; what nobody has any more
    is closed with 1001.
    """

    def __init__(self, there: Background, receiver: _Receiver) -> None:
        self._background = there
        self._receiver = receiver
        self._connection = receiver.connection
        there.run(lambda: there.keep(receiver.close))
        self._finalizer = weakref.finalize(self, _let_go, there, receiver)
        self._finalizer.atexit = False

    def send(self, message: str | bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send a message: a text if it is a `str`, else a binary one.

        It waits while the server does not read, and `high_water` bytes wait already.

        Args:
            message: what to send.
            timeout: seconds that it waits at most, None for any time; after them nothing is sent.

        Raises:
            ConnectionClosed: the connection is closed, or closes.
            CallTimeoutError: the server still did not read.
            TypeError: it is neither text nor bytes.
        """
        connection = self._connection
        self._call("send", lambda: connection.send(message), timeout)

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Receive the next message: `str` if it is a text, else `bytes`.

        What came before the end can be received after it.

        Args:
            timeout: seconds that it waits at most, None for any time.

        Raises:
            ConnectionClosed: the connection has ended and all is received.
            CallTimeoutError: nothing came in that time; what comes later is received later.
        """
        return self._call("receive", self._receiver.receive, timeout, self._receiver.keep)

    def __iter__(self) -> Iterator[str | bytes]:
        return self

    def __next__(self) -> str | bytes:
        try:
            return self.receive()
        except ConnectionClosed as error:
            if error.code in (1000, 1001):
                raise StopIteration from None
            raise

    def ping(self, timeout: float | None = None) -> float:
        """Send a ping, and wait for its pong (RFC 6455 section 5.5.2).

        Args:
            timeout: seconds that it waits at most, None for any time.

        Returns:
            How long that took, in seconds.

        Raises:
            ConnectionClosed: the connection has ended, before or meanwhile.
            CallTimeoutError: there was no pong in that time.
        """
        return self._call("ping", self._connection.ping, timeout)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection (RFC 6455 section 7.1.2), and wait until nothing is left of it.

        The server has `close_timeout` seconds to answer. Once the connection has ended it does nothing.

        Args:
            code: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
            reason: for people; cut to 123 bytes of UTF-8.

        Raises:
            ValueError: the code may not be sent.
        """
        there, receiver = self._background, self._receiver
        self._call("close", lambda: receiver.end(there, code, reason), None)
        self._finalizer.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose, or None (RFC 6455 section 1.9)."""
        return self._connection.subprotocol

    @property
    def compression(self) -> str | None:
        """How messages are compressed (RFC 7692): ``"shared"``, ``"dedicated"``, or None where they are not."""
        return self._connection.compression

    @property
    def headers(self) -> Any:
        """The header fields of the server's answer: a mapping that does not care about the case of names."""
        return self._connection.headers

    @property
    def path(self) -> str:
        """The path that the server was asked for, decoded."""
        return self._connection.path

    @property
    def remote_address(self) -> tuple[str, int] | None:
        """Host and port of the server, or of the proxy before it; None on a Unix socket."""
        return self._connection.remote_address

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self._connection.secure

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent: until either side begins to close."""
        return self._connection.is_open

    @property
    def close_code(self) -> int | None:
        """The close code once it is closed: the server's, else ours, else 1006; before, None."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str | None:
        """The reason that belongs to `close_code`."""
        return self._connection.close_reason

    @property
    def was_clean(self) -> bool:
        """Whether both close frames were exchanged (RFC 6455 section 7.1.4)."""
        return self._connection.was_clean

    def __repr__(self) -> str:
        return f"<fastws.sync.Connection, {self._connection!r}>"

    def _call(
        self,
        name: str,
        function: Callable[[], Awaitable[_T]],
        timeout: float | None,
        orphaned: Callable[[_T], object] | None = None,
    ) -> _T:
        name = f"connection.{name}"
        if timeout is None:
            return self._background.call(name, function, orphaned)
        _check_timeout(timeout)
        return self._background.call(name, lambda: _within(name, function, timeout), orphaned)


async def _within(name: str, function: Callable[[], Awaitable[_T]], timeout: float) -> _T:
    """Await with a bound; what is done in the same moment, or has only to be taken, is not lost."""
    task = asyncio.ensure_future(function())
    error: BaseException = CallTimeoutError(name, timeout)
    try:
        await asyncio.wait([task], timeout=min(timeout, MAX_TIMEOUT))
    except asyncio.CancelledError as cancelled:
        error = cancelled
    task.cancel()
    await asyncio.wait([task])
    try:
        if task.cancelled():
            raise error
        return task.result()
    finally:
        del error, task  # an error that is raised knows this frame


def _check_timeout(timeout: object) -> None:
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not (timeout >= 0):
        raise ConfigurationError(f"timeout={timeout!r}: give a number of seconds from 0, or None for any time")


def _drop(receiver: _Receiver) -> None:
    """Close what nobody has."""
    task = asyncio.ensure_future(receiver.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _let_go(there: Background, receiver: _Receiver) -> None:
    there.run(lambda: there.forget(receiver.close))
    there.run(lambda: _drop(receiver))


_closing: set[asyncio.Task[None]] = set()
