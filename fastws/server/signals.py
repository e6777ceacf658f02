"""Signals, while a server runs: each calls a function on its loop.

They are Python's own handlers and not those of the loop, because `signal.getsignal` then tells whose they are: what
somebody else has set, before or meanwhile, is neither taken nor removed. Only the main thread can have any; elsewhere
nothing is set, and nothing is said.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["ENDING", "OF_TERMINAL", "Signals", "hold_back", "is_unhandled", "leave_to_others"]

ENDING: Final = (signal.SIGINT, signal.SIGTERM)
OF_TERMINAL: Final = (signal.SIGINT, signal.SIGHUP)  # which tells all processes that run there


class Signals:
    """Calls a function on a loop for each signal that comes while this is entered.

    Args:
        loop: runs in this thread.
        numbers: the signals.
        callback: gets the number of the signal.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, numbers: Iterable[int], callback: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._numbers = list(numbers)
        self._callback = callback
        self._previous: dict[int, Any] = {}
        self._process = os.getpid()
        self._entered = False

    def __enter__(self) -> Self:
        """Take the signals."""
        self._entered = True
        if threading.current_thread() is threading.main_thread():
            with contextlib.suppress(
                ValueError
            ):  # a second interpreter of the process has a main thread without signals
                for number in self._numbers:
                    self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the signals back."""
        self._entered = False
        for number in self._previous:
            self._give_back(number)

    def let_kill(self) -> None:
        """Have each of the signals end the process from now on, without further ado."""
        for number in self._previous:
            if self._is_ours(number):
                signal.signal(number, signal.SIG_DFL)

    def _is_ours(self, number: int) -> bool:
        return signal.getsignal(number) == self._take

    def _give_back(self, number: int) -> None:
        if self._is_ours(number):
            signal.signal(number, self._previous[number])

    def _take(self, number: int, _frame: object) -> None:
        if self._entered and os.getpid() == self._process:
            self._loop.call_soon_threadsafe(self._callback, number)
            return
        # In a child of a fork, or below one that has left: as if we were not there
        self._give_back(number)
        signal.raise_signal(number)


@contextlib.contextmanager
def hold_back() -> Iterator[None]:
    """Start processes that get no signal of the terminal before they `leave_to_others`; ours come afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_others(numbers: Iterable[int]) -> None:
    """Do nothing at signals that are another process's affair."""
    for number in numbers:
        # Not SIG_IGN, which the programs that services start would inherit
        signal.signal(number, _pass)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _pass(_number: int, _frame: object) -> None:
    """Do nothing."""


def is_unhandled(number: int) -> bool:
    """Tell whether a signal has its default action, or is taken by one of ours."""
    handler = signal.getsignal(number)
    return handler in (signal.SIG_DFL, signal.default_int_handler) or isinstance(
        getattr(handler, "__self__", None), Signals
    )
