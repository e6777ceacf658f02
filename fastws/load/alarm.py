"""Sleeping until a moment, by microseconds.

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
    from collections.abc import Iterator
    from typing import Protocol

    class Alarm(Protocol):
        """Sleeps until a moment of `time.perf_counter`."""

        def sleep_until(self, moment: float) -> asyncio.Future[None]: ...


__all__ = ["alarm"]

_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_CLOCK: Final = 1  # CLOCK_MONOTONIC, which time.perf_counter reads, too
_AT_LEAST: Final = 1e-6  # seconds: a time that has passed rings at once, and 0 never


@contextlib.contextmanager
def alarm() -> Iterator[Alarm]:
    """Give the best alarm that there is; one sleeper at a time."""
    loop = asyncio.get_running_loop()
    if sys.platform != "linux":
        yield _LoopAlarm(loop)
        return
    kernel = _KernelAlarm(loop)
    try:
        yield kernel
    finally:
        kernel.close()


class _LoopAlarm:
    """The loop's own timer, late by up to a millisecond."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def sleep_until(self, moment: float) -> asyncio.Future[None]:
        future = self._loop.create_future()
        self._loop.call_later(max(0.0, moment - time.perf_counter()), _wake, future)
        return future


class _KernelAlarm:
    """A timerfd that the loop watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self._library = ctypes.CDLL(None, use_errno=True)
        self._fd = self._library.timerfd_create(_CLOCK, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        loop.add_reader(self._fd, self._rang)

    def sleep_until(self, moment: float) -> asyncio.Future[None]:
        self._future = self._loop.create_future()
        seconds = max(moment, _AT_LEAST)
        # struct itimerspec: the interval, which is none, and when it rings first, in seconds and nanoseconds each
        times = (ctypes.c_long * 4)(0, 0, int(seconds), int(seconds % 1 * 1e9))
        self._library.timerfd_settime(self._fd, _ABSOLUTE, times, None)
        return self._future

    def _rang(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it was set anew meanwhile
            os.read(self._fd, 8)
            if self._future is not None:
                _wake(self._future)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():  # who slept may have been cancelled
        future.set_result(None)
