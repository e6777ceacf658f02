"""Being called at a moment, by microseconds.

Timers of the event loop count milliseconds, which is longer than a delivery takes. On Linux a timer of the kernel rings
in a descriptor that the loop watches; `os` knows it from Python 3.13 on, the C library since ever. Elsewhere the loop's
own timer has to do, and what it is late by shows in the report.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Alarm", "alarm"]

_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_CLOCK: Final = 1  # CLOCK_MONOTONIC, which time.perf_counter reads, too
_AT_LEAST: Final = 1e-6  # seconds: a time that has passed rings at once, and 0 never


@contextlib.contextmanager
def alarm(ring: Callable[[], None]) -> Iterator[Alarm]:
    """Give the best alarm that there is.

    Args:
        ring: called once for each time that was set, unless another was set before that came.
    """
    loop = asyncio.get_running_loop()
    made = _KernelAlarm(loop, ring) if sys.platform == "linux" else Alarm(loop, ring)
    try:
        yield made
    finally:
        made.close()


class Alarm:
    """The loop's own timer, late by up to a millisecond."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, moment: float) -> None:
        """Ring at a moment of `time.perf_counter`, in a later turn of the loop; at once if that has passed."""
        self.close()
        self._timer = self._loop.call_later(max(0.0, moment - time.perf_counter()), self._ring)

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()


class _KernelAlarm(Alarm):
    """A timerfd that the loop watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        super().__init__(loop, ring)
        self._library = ctypes.CDLL(None, use_errno=True)
        self._fd = self._library.timerfd_create(_CLOCK, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        # struct itimerspec: the interval, which is none, and when it rings first, in seconds and nanoseconds each
        self._times = (ctypes.c_long * 4)()
        loop.add_reader(self._fd, self._rang)

    def set(self, moment: float) -> None:
        seconds = max(moment, _AT_LEAST)
        self._times[2], self._times[3] = int(seconds), int(seconds % 1 * 1e9)
        self._library.timerfd_settime(self._fd, _ABSOLUTE, self._times, None)

    def _rang(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it was set anew meanwhile
            os.read(self._fd, 8)
            self._ring()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
