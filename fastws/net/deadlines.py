"""Coarse deadlines for many objects behind one timer.

A timer handle per connection costs memory and a place in the loop's heap for something that hardly ever happens. Here
time is cut into ticks; an object waits in the bucket of its tick, so that setting and clearing are two dict operations,
and the loop's timer runs only while somebody waits. A deadline is never early and at most two ticks late.

A handler may hold up the loop for longer than a deadline is away. That is no client's fault, and what it sent meanwhile
lies unread: the time does not count, and whoever is due is looked at when the loop has read once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable

__all__ = ["Deadlines", "Waiting"]

RESOLUTION: Final = 0.5  # seconds
LATE: Final = 0.01  # seconds that a tick may come after its time before the loop counts as held up


class Waiting(Protocol):
    """Anything hashable with `on_deadline` can wait for a deadline."""

    def on_deadline(self) -> None:
        """Do what is to be done when the time has come."""

    def __hash__(self) -> int: ...


class Deadlines:
    """The deadlines of one event loop, at most one per object.

    Args:
        loop: the loop whose clock counts and that calls `on_deadline`.
        resolution: the length of a tick in seconds.
    """

    __slots__ = ("_buckets", "_due", "_loop", "_lost", "_resolution", "_ticks", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, resolution: float = RESOLUTION) -> None:
        self._loop = loop
        self._resolution = resolution
        self._ticks: dict[Hashable, int] = {}
        # A dict for a set that keeps its order.
        self._buckets: dict[int, dict[Waiting, None]] = {}
        self._timer: asyncio.Handle | None = None
        self._due = 0.0  # the loop's time of the next tick
        self._lost = 0.0  # seconds that the loop was held up, all in all

    def __len__(self) -> int:
        """How many objects wait."""
        return len(self._ticks)

    def set(self, waiting: Waiting, seconds: float) -> None:
        """Call ``waiting.on_deadline()`` once in `seconds`, and not at an earlier deadline that was set for it."""
        self.clear(waiting)
        tick = int((self._time() + seconds) / self._resolution) + 1
        self._ticks[waiting] = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
        bucket[waiting] = None
        if self._timer is None:
            self._start()

    def clear(self, waiting: Waiting) -> None:
        """Forget the deadline of an object, if it has one."""
        tick = self._ticks.pop(waiting, None)
        if tick is not None:
            bucket = self._buckets[tick]
            del bucket[waiting]
            if not bucket:
                del self._buckets[tick]

    def close(self) -> None:
        """Forget all deadlines."""
        self._ticks.clear()
        self._buckets.clear()
        self._stop()

    def _time(self) -> float:
        return self._loop.time() - self._lost

    def _start(self) -> None:
        self._due = self._loop.time() + self._resolution
        self._timer = self._loop.call_later(self._resolution, self._tick)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        late = self._loop.time() - self._due
        if late <= LATE:
            self._expire()
        else:
            self._lost += late
            self._timer = self._loop.call_soon(self._read_first)

    def _read_first(self) -> None:
        # A second time: the first may come before the loop polls, and comes before what it read is handled
        self._timer = self._loop.call_soon(self._expire)

    def _expire(self) -> None:
        now = int(self._time() / self._resolution)
        try:
            for tick in sorted(tick for tick in self._buckets if tick <= now):
                for waiting in list(self._buckets.get(tick, ())):
                    # An earlier one of this tick may have cleared it.
                    if self._ticks.get(waiting) == tick:
                        self.clear(waiting)
                        self._call(waiting)
        finally:
            # Also when one of them is cancelled or ends the loop, which closes the others still
            self._timer = None
            if self._buckets:
                self._start()

    def _call(self, waiting: Waiting) -> None:
        try:
            waiting.on_deadline()
        except Exception as error:
            # One failure must not stop the clock of all others.
            context = {"message": f"deadline of {waiting!r} failed", "exception": error}
            self._loop.call_exception_handler(context)
