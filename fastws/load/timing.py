"""When messages are due, and sending them then.

Times are those of `time.perf_counter`, in seconds. What is due is decided before anything is sent and never moved: a
server that holds up the sender is late with all that was due meanwhile, as it would be for users, who do not wait for
each other. (Tools that send the next message when the last one was answered leave these out: coordinated omission.)
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from .alarm import alarm

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "Schedule", "keep_pace", "now"]

now = time.perf_counter

# Seconds: above 10,000 messages a second several are sent at once, since an alarm costs much of that
_GRAIN: Final = 100e-6

# Up to which number a time since 1970 is one in that unit, of so many seconds: they lie thousands of years apart
_UNITS: Final = ((1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6), (float("inf"), 1e-9))


class Clock:
    """The time of day, as it was at one moment and as `now` goes on: nobody sets it meanwhile."""

    def __init__(self) -> None:
        self._ahead = time.time() - now()

    def microseconds(self, moment: float) -> int:
        """Return a moment in microseconds since 1970, as `{due}` gives it."""
        return round((moment + self._ahead) * 1e6)

    def moment(self, stamp: float) -> float:
        """Return the moment of a time since 1970 in seconds, milliseconds, microseconds or nanoseconds."""
        seconds = next(stamp * unit for most, unit in _UNITS if stamp < most)
        return seconds - self._ahead


class Schedule:
    """Numbered messages at a fixed rate.

    Args:
        start: when number 0 is due.
        rate: messages a second.
    """

    def __init__(self, start: float, rate: float) -> None:
        self.start = start
        self.rate = rate
        self._interval = 1 / rate

    def due(self, seq: int) -> float:
        """Return when a message is due."""
        return self.start + seq * self._interval

    def count(self, moment: float) -> int:
        """Return how many messages are due up to a moment: the number of the first that is not."""
        count = max(0, int((moment - self.start) * self.rate))
        while self.due(count) <= moment:
            count += 1
        return count


async def keep_pace(schedule: Schedule, send: Callable[[int], None], until: Callable[[], int | None]) -> None:
    """Call `send` with each number when it is due, or at once if that has passed.

    A rate that is more than can be sent does not keep the loop from reading: what becomes due meanwhile waits for its
    next turn.

    Args:
        schedule: when that is.
        send: sends a message, and does not wait; what it raises ends this.
        until: says the first number that is not to be sent, or None while nobody knows.
    """
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seq = 0

    def send_due() -> None:
        nonlocal seq
        count, end = schedule.count(now()), until()
        while seq < count and (end is None or seq < end):
            send(seq)
            seq += 1
        if end is not None and seq >= end:
            ended.set_result(None)
        else:
            clock.set(max(schedule.due(seq), now() + _GRAIN))

    def ring() -> None:
        try:
            if not ended.done():
                send_due()
        except Exception as error:
            ended.set_exception(error)

    with alarm(ring) as clock:
        clock.set(schedule.start)
        await ended
