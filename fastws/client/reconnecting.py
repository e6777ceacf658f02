"""A connection that is made again for ever: `async for connection in fastws.reconnect(url)`."""

from __future__ import annotations

from asyncio import get_running_loop, sleep
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import ConfigurationError, ConnectionClosed, FastWSError
from ..options import ConnectOptions, takes
from .backoff import Backoff, is_permanent
from .connect import connect

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .._speedups import ClientConnection
    from .connect import Connecting

__all__ = ["Reconnecting", "Retry", "reconnect"]

MAX_DELAY: Final = 60.0  # seconds


class Retry(NamedTuple):
    """What `on_retry` is told before each wait.

    Attributes:
        attempt: which attempt will follow, since the last connection that lived for 10 seconds; 2 is the first that
            is told of.
        delay: seconds until then.
        error: why: that of `connect`, or `ConnectionClosed` with what became of the last connection.
    """

    attempt: int
    delay: float
    error: FastWSError


class Reconnecting(AsyncIterator["ClientConnection"]):
    """Connections to one server, one after another; made by `fastws.reconnect`.

    It is iterated over once, by one task. With its end, by `break`, an error or `aclose`, the last connection is
    closed.
    """

    def __init__(
        self,
        url: str,
        options: ConnectOptions,
        *,
        max_delay: float,
        max_attempts: int | None,
        on_retry: Callable[[Retry], object] | None,
    ) -> None:
        if options.get("sock") is not None:
            raise ConfigurationError("reconnect: sock is one connection, and cannot be made again")
        connecting = connect(url, **options)  # a mistake is told at once
        self._backoff = Backoff(_checked_delay(max_delay))
        self._connections = _connections(
            connecting, self._backoff, _checked_attempts(max_attempts), _checked_callback(on_retry)
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientConnection:
        return await self._connections.__anext__()

    async def aclose(self) -> None:
        """Close the connection, and make no other one."""
        await self._connections.aclose()

    @property
    def attempt(self) -> int:
        """Which attempt this is since the last connection that lived for 10 seconds, from 1; 0 before the first one."""
        return self._backoff.attempt

    @property
    def delay(self) -> float:
        """Seconds that are, or were, waited before this attempt; 0 for the first one."""
        return self._backoff.delay


@takes(ConnectOptions)
def reconnect(
    url: str,
    *,
    max_delay: float = MAX_DELAY,
    max_attempts: int | None = None,
    on_retry: Callable[[Retry], object] | None = None,
    **options: Unpack[ConnectOptions],
) -> Reconnecting:
    """Connect to a server, and again whenever that connection has ended.

    ::

        async for connection in fastws.reconnect("wss://example.com/prices"):
            with contextlib.suppress(fastws.ConnectionClosed):
                async for message in connection:
                    ...

    Before each attempt but the first it waits: a random time of up to 1 s, then 2 s, 4 s and so on up to `max_delay`.
    Once a connection has lived for 10 seconds it begins with 1 s again. A server that says when to come back is obeyed,
    up to an hour: in the reason of its close frame, as one that drains does (``reconnect in 3500 ms``), or with
    ``Retry-After`` of a refusal.

    It never gives up by itself, but where another attempt would end the same: a URL or an option that is wrong, a
    redirect that is not followed, a certificate that is not trusted, and statuses from 400 to 499, of a server or a
    proxy, but for 408, 425 and 429. To give up for another reason raise an error in `on_retry`. When the body of the
    loop comes to its end, the connection is closed if it is open still, and the next one is made.

    Args:
        url: as for `connect`, as are all options but these.
        max_delay: seconds that it waits at most, without a hint of the server's.
        max_attempts: attempts in a row, each without a connection that lived for 10 seconds, after which the last error
            is raised; None for any number.
        on_retry: called with a `Retry` before each wait; it must not block.

    Raises:
        ConfigurationError: the URL or one of these arguments is wrong.
        FastWSError: from the loop: it gives up, and why.
    """
    return Reconnecting(url, options, max_delay=max_delay, max_attempts=max_attempts, on_retry=on_retry)


# Apart from Reconnecting, which is not to be kept alive by what it iterates over: when nobody has it any more, the
# connection is closed.
async def _connections(
    connecting: Connecting[ClientConnection],
    backoff: Backoff,
    max_attempts: int | None,
    on_retry: Callable[[Retry], object] | None,
) -> AsyncGenerator[ClientConnection, None]:
    now = get_running_loop().time
    backoff.begin()
    while True:
        error: FastWSError
        try:
            connection = await connecting
        except FastWSError as failure:
            error = failure
        else:
            begin = now()
            try:
                yield connection
            finally:
                await connection.close()
            backoff.lived(now() - begin)
            error = ConnectionClosed(connection.close_code or 1006, connection.close_reason or "")
        if is_permanent(error) or backoff.attempt == max_attempts:
            raise error
        delay = backoff.next(error)
        if on_retry is not None:
            on_retry(Retry(backoff.attempt, delay, error))
        del error
        await sleep(delay)


def _checked_delay(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise ConfigurationError(f"max_delay={value!r}: give a number of seconds from 0")
    return value


def _checked_attempts(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigurationError(f"max_attempts={value!r}: give a number above 0, or None for any number")
    return value


def _checked_callback(value: Any) -> Callable[[Retry], object] | None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"on_retry={value!r}: give a function that takes a Retry, or None")
    return value  # type: ignore[no-any-return]
