"""Opening very many connections, one after another, and keeping count of those that fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from ..client.connect import connect, unchecked_context
from ..errors import ConnectError, InvalidStatus, OpenTimeoutError
from .recording import add
from .timing import Schedule, keep_pace, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .. import ws
    from .plan import Plan

__all__ = ["Crowd", "Dialer"]

_AT_ONCE: Final = 256  # opening handshakes that are under way; more wait for one of these
# Bytes of a message, and of what waits for a server that does not read: we are not in the way
_LARGEST: Final = 1 << 30
_ENDING: Final = 2.0  # seconds for the closing handshakes at the end


class Dialer:
    """Opens connections to one URL, from several addresses in turns.

    Attributes:
        opened: how many were.
        refused: those that were answered with another status than 101, by status.
        failed: those that failed otherwise, by what went wrong.
    """

    def __init__(self, plan: Plan, url: str, addresses: Sequence[str]) -> None:
        self.opened = 0
        self.refused: dict[int, int] = {}
        self.failed: dict[str, int] = {}
        self._url = url
        self._addresses = addresses
        self._options = _options(plan, url)

    async def open(self, listener: object, number: int) -> ws.Connection | None:
        """Open a connection; None: it failed, and is counted."""
        options = self._options
        if self._addresses:
            options = {**options, "local_addr": (self._addresses[number % len(self._addresses)], 0)}
        try:
            connection = await connect(self._url, listener, **options)
        except InvalidStatus as error:
            add(self.refused, {error.status: 1})
        except ConnectError as error:
            add(self.failed, {_name(error): 1})
        else:
            self.opened += 1
            return connection
        return None


def _options(plan: Plan, url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "headers": plan.headers,
        "subprotocols": plan.subprotocol,
        "origin": plan.origin,
        "compression": None,
        "open_timeout": plan.open_timeout,
        "ping_interval": None,
        "proxy": None,
        "max_redirects": 0,
        "max_message_size": _LARGEST,
        "max_backlog": _LARGEST,
    }
    if url.startswith("wss:") and plan.insecure:
        options["ssl"] = unchecked_context()
    return options


def _name(error: ConnectError) -> str:
    """Return what went wrong, in the same words for all to whom it happened."""
    return "timeout" if isinstance(error, OpenTimeoutError) else error.strerror or str(error)


class Crowd:
    """The connections of a question.

    Attributes:
        opened: the connections by their numbers.
        seconds: how long it took to open them.
    """

    def __init__(
        self, plan: Plan, dialer: Dialer, listener_of: Callable[[int], object], numbers: Sequence[int]
    ) -> None:
        self.opened: dict[int, ws.Connection] = {}
        self.seconds = 0.0
        self._plan = plan
        self._dialer = dialer
        self._listener_of = listener_of
        self._numbers = numbers
        self._subscriptions = plan.subscriptions
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def open(self, prepare: Callable[[int, ws.Connection], None]) -> None:
        """Open all of them over the time of the ramp, evenly.

        Args:
            prepare: called with each that is open, before it subscribes.
        """
        start = now()
        tasks: list[asyncio.Task[None]] = []
        numbers = self._numbers
        pace = Schedule(start, len(numbers) / max(self._plan.ramp_seconds, 1e-3))
        try:
            await keep_pace(
                pace,
                lambda place: tasks.append(asyncio.ensure_future(self._open(numbers[place], prepare))),
                lambda: len(numbers),
            )
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        self.seconds = now() - start

    async def _open(self, number: int, prepare: Callable[[int, ws.Connection], None]) -> None:
        async with self._turns:
            connection = await self._dialer.open(self._listener_of(number), number)
        if connection is not None:
            self.opened[number] = connection
            prepare(number, connection)
            for template in self._subscriptions:
                connection.push_text(template.render(n=number, room=number % self._plan.rooms))

    async def close(self) -> None:
        """Close all of them, within a time."""
        await end(self.opened.values())


async def end(connections: Iterable[ws.Connection]) -> None:
    """Close connections, and wait a moment until they are."""
    ending = []
    for connection in connections:
        connection.close()
        ending.append(asyncio.ensure_future(connection.wait_closed()))
    if ending:
        _, late = await asyncio.wait(ending, timeout=_ENDING)
        for task in late:
            task.cancel()
