"""The time of servers in memory: it stands still until the test moves it on, and then nobody waits for it.

Theory of operation. All servers in memory on a loop have one `Clock`. It stands in front of the loop's own `time`,
`call_later` and `call_at`, and answers those who run for a server: their context says so (`_clock`), and tasks and
timers that they start have copies of it. So `asyncio.sleep` and `asyncio.timeout` in a handler wait for this clock, and
the same functions in the test itself, which guard it against hanging, go on in real time. A hub and the deadlines of
HTTP are given the clock by name, whoever calls them, and are exact with it.

What is under way. A loop runs what is ready in the order in which it became so. The clock stands in front of
`call_soon`, too, and counts. It lets something run behind all that is ready now, and looks: if nothing was counted
since it looked last, then all of that has run and made nothing else ready. Transports in memory have nothing under way
but such calls. So `settle` ends when handlers have ended, or wait for the clock, or for something outside of all this:
a thread, a process or a socket of their own. Those it does not wait for.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError
from ..net.deadlines import Deadlines

if TYPE_CHECKING:
    from .._speedups import Hub
    from ..net.deadlines import Waiting

__all__ = ["Clock"]

SLACK: Final = 1e-3  # seconds; sums of times are rounded, and nobody means to miss a deadline by that
MOST_TURNS: Final = 100_000  # of a loop, until what runs there counts as endless

_clock: Final = contextvars.ContextVar["Clock | None"]("fastws.testing.clock", default=None)

_REPLACED: Final = ("time", "call_later", "call_at", "call_soon", "call_soon_threadsafe")


class _Timer:
    """What is to be called at a time; stands for `asyncio.TimerHandle`."""

    __slots__ = ("_cancelled", "_when", "args", "callback", "context")

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self._when = when
        self.callback = callback
        self.args = args
        self.context = contextvars.copy_context() if context is None else context
        self._cancelled = False

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self._cancelled = True
        self.callback, self.args = _nothing, ()  # as asyncio's: what they hold may be large

    def cancelled(self) -> bool:
        return self._cancelled


def _nothing() -> None:
    pass


class Clock:
    """The time of the servers in memory on an event loop.

    What waits for it: pings, idle times, deadlines of handshakes, of closing and of draining, and what handlers and
    background tasks sleep for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if not hasattr(loop, "__dict__"):
            raise ConfigurationError(
                f"fastws.testing: {type(loop).__name__} lets nobody move its time; use another loop"
            )
        self._loop = loop
        self._before = {name: vars(loop)[name] for name in _REPLACED if name in vars(loop)}
        self._real_time: Callable[[], float] = loop.time
        self._real_call_later = loop.call_later
        self._real_call_at = loop.call_at
        self._real_call_soon = loop.call_soon
        self._real_call_soon_threadsafe = loop.call_soon_threadsafe
        self._now = loop.time()
        self._timers: list[tuple[float, int, _Timer]] = []  # a heap
        self._numbers = itertools.count()
        self._scheduled = 0  # calls of call_soon, ever
        self._advancing: asyncio.Task[None] | None = None
        self._hubs: list[Hub] = []
        self._users = 0

    # --- For tests.

    def time(self) -> float:
        """Return the time in seconds, as `asyncio.get_running_loop().time()` does in a handler."""
        return self._now

    def advance(self, seconds: float) -> asyncio.Future[None]:
        """Move the time on, and run all that is due meanwhile, in order, each when it is due.

        It begins at once, and whoever waits for anything of the kit waits for it, too; await it to have it done.

        Args:
            seconds: 0 runs what is due now.

        Raises:
            ConfigurationError: time does not go back.
        """
        if not 0 <= seconds < math.inf:
            raise ConfigurationError(f"clock.advance({seconds!r}): give a number of seconds, 0 or more")
        self._advancing = self._loop.create_task(self._advance(self._advancing, seconds))
        return self._advancing

    async def settle(self) -> None:
        """Run everything that is under way, and what follows from it, until all wait for something else."""
        while self._advancing is not None and not self._advancing.done():
            await asyncio.shield(self._advancing)
        await self._run_ready()

    # --- For servers.

    @classmethod
    def acquire(cls, loop: asyncio.AbstractEventLoop) -> Clock:
        """Return the clock of a loop for one more user, who releases it; the first one puts it in its place."""
        clock = getattr(getattr(loop, "call_soon", None), "__self__", None)
        if not isinstance(clock, Clock):
            clock = cls(loop)
            clock._replace()
        clock._users += 1
        return clock

    def release(self) -> None:
        """Let go of it; after the last one the loop has its own time, and what still waits goes on in that."""
        self._users -= 1
        if self._users:
            return
        for name in _REPLACED:
            del vars(self._loop)[name]
        for name, function in self._before.items():
            vars(self._loop)[name] = function
        for when, _, timer in self._timers:
            if not timer.cancelled():
                self._real_call_later(max(0.0, when - self._now), self._run, timer, context=timer.context)
        self._timers.clear()

    def context(self) -> contextvars.Context:
        """Return a context in which the time is this one."""
        context = contextvars.copy_context()
        context.run(_clock.set, self)
        return context

    def govern(self, hub: Hub) -> None:
        """Have a hub take its time from here."""
        hub.keep_time(self)
        self._hubs.append(hub)

    def forget(self, hub: Hub) -> None:
        """Tell a hub the time no longer."""
        self._hubs.remove(hub)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Timer:
        """Call a function after so many seconds of this clock."""
        timer = _Timer(self._now + max(0.0, delay), callback, args, context)
        heapq.heappush(self._timers, (timer.when(), next(self._numbers), timer))
        return timer

    async def drive(self, future: asyncio.Future[Any], patience: float) -> bool:
        """Move the time on as far as something needs to be done; returns whether it is.

        Args:
            future: what is to be done.
            patience: real seconds to wait for what is outside of all this, once nothing here is due any more.
        """
        while not future.done():
            await self.settle()
            if not future.done() and not await self._fire_next(math.inf):
                await asyncio.wait([future], timeout=patience)
                return future.done()
        return True

    # --- Running what is due.

    async def _advance(self, earlier: asyncio.Task[None] | None, seconds: float) -> None:
        if earlier is not None and not earlier.done():
            await asyncio.wait([earlier])
        target = self._now + seconds
        await self._run_ready()
        while await self._fire_next(target):
            await self._run_ready()
        self._move(target)

    async def _fire_next(self, target: float) -> bool:
        """Run the timer that is due next, unless that is after `target`; returns whether there was one."""
        while self._timers and self._timers[0][0] <= target + SLACK:
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._move(when)
                self._loop.call_soon(self._run, timer, context=timer.context)
                return True
        return False

    @staticmethod
    def _run(timer: _Timer) -> None:
        timer.callback(*timer.args)

    def _move(self, now: float) -> None:
        self._now = max(self._now, now)
        for hub in self._hubs:
            hub.tell_time(self._now)

    async def _run_ready(self) -> None:
        settled = self._loop.create_future()
        self._look(settled, -1, MOST_TURNS)
        await settled

    def _look(self, settled: asyncio.Future[None], scheduled: int, turns: int) -> None:
        """Behind all that was ready when it looked last: see whether that has made anything else ready."""
        if settled.done():
            return
        if scheduled == self._scheduled:
            settled.set_result(None)
        elif not turns:
            settled.set_exception(
                RuntimeError("what runs on this loop never waits for anything, so the test cannot go on")
            )
        else:
            self._real_call_soon(self._look, settled, self._scheduled, turns - 1)

    # --- In front of the loop's own.

    def _replace(self) -> None:
        for name in _REPLACED:
            vars(self._loop)[name] = getattr(self, f"_{name}")

    def _time(self) -> float:
        return self._now if _clock.get() is self else self._real_time()

    def _call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        call = self.call_later if _clock.get() is self else self._real_call_later
        return call(delay, callback, *args, context=context)

    def _call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        if _clock.get() is self:
            return self.call_later(when - self._now, callback, *args, context=context)
        return self._real_call_at(when, callback, *args, context=context)

    def _call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        self._scheduled += 1
        return self._real_call_soon(callback, *args, context=context)

    def _call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        self._scheduled += 1
        return self._real_call_soon_threadsafe(callback, *args, context=context)


class ExactDeadlines(Deadlines):
    """The deadlines of a loop by a clock of a test, each at its very moment; `net.deadlines` has those of real time.

    Args:
        clock: that moves on when the test says so.
        loop: is told of what fails.
    """

    __slots__ = ("_clock", "_timers")

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._clock = clock
        self._timers: dict[Waiting, _Timer] = {}

    def __len__(self) -> int:
        """How many objects wait."""
        return len(self._timers)

    def set(self, waiting: Waiting, seconds: float) -> None:
        """Call ``waiting.on_deadline()`` once in `seconds`, and not at an earlier deadline that was set for it."""
        self.clear(waiting)
        self._timers[waiting] = self._clock.call_later(seconds, self._expire_one, waiting)

    def clear(self, waiting: Waiting) -> None:
        """Forget the deadline of an object, if it has one."""
        timer = self._timers.pop(waiting, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Forget all deadlines."""
        for waiting in list(self._timers):
            self.clear(waiting)

    def _expire_one(self, waiting: Waiting) -> None:
        del self._timers[waiting]
        self._call(waiting)
