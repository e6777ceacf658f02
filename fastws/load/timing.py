"""When messages are due, and sending them then.

Times are those of `time.perf_counter`, in seconds. What is due is decided before anything is sent and never moved: a
server that holds up the sender is late with all that was due meanwhile, as it would be for users, who do not wait for
each other. (Tools that send the next message when the last one was answered leave these out: coordinated omission.)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from .alarm import alarm

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "Schedule", "keep_pace", "now"]

now = time.perf_counter

# Powers of ten of a time since 1970 in seconds, up to which it may be one in that unit: they lie thousands of years apart
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

    Args:
        schedule: when that is.
        send: sends a message, and does not wait.
        until: says the first number that is not to be sent, or None while nobody knows.
    """
    seq = 0
    with alarm() as clock:
        while True:
            for number in range(seq, schedule.count(now())):
                end = until()
                if end is not None and number >= end:
                    return
                send(number)
                seq = number + 1
            # Always: a rate that is more than can be sent must not keep the loop from reading
            await clock.sleep_until(schedule.due(seq))
