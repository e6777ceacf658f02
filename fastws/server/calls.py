"""Calls from other threads: a function runs on the thread of the loop, and no caller waits for a loop that has ended.

Who calls waits for its turn on the loop. The end of the server refuses those that still wait and all that come later; a
lock stands between "is it over?" and "wait for it", because the end may come between the two.
"""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..errors import NotServingError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Calls"]

_T = TypeVar("_T")
_NAME = "server.call_from_thread"


class Calls:
    """The calls of other threads to one loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[_Call] = set()
        # One that its own thread may take again: a finalizer can call from anywhere
        self._lock = threading.RLock()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take calls from now on."""
        self._loop = loop

    def end(self) -> None:
        """Take none any more, and refuse those that wait."""
        with self._lock:
            self._loop = None
            waiting, self._waiting = self._waiting, set()
        for call in waiting:
            call.refuse()

    def run(self, function: Callable[[], _T]) -> _T:
        """Run a function on the loop and wait for what becomes of it.

        Raises:
            NotServingError: nobody serves, or the server ended before the function had its turn.
        """
        call = _Call(function)
        self._pass_on(call)
        try:
            result: _T = call.result.result()
        finally:
            with self._lock:
                self._waiting.discard(call)
            # An exception knows this frame, and the call knows the exception. Since CPython 3.14 asyncio's frame below
            # knows the call, too (_ThreadSafeHandle._run), so the call forgets.
            call.result = _OVER
            del call
        return result

    def _pass_on(self, call: _Call) -> None:
        with self._lock:
            if self._loop is None:
                raise NotServingError(_NAME)
            try:
                self._loop.call_soon_threadsafe(call.run)
            except RuntimeError:
                # The loop was closed and nobody told the server
                raise NotServingError(_NAME) from None
            self._waiting.add(call)


_OVER: Final[concurrent.futures.Future[Any]] = concurrent.futures.Future()
_OVER.cancel()


class _Call:
    __slots__ = ("_function", "result")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.result: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run(self) -> None:
        if self.result.done():
            return
        try:
            self.result.set_result(self._function())
        except BaseException as error:
            self.result.set_exception(error)
            del self  # as in Calls.run

    def refuse(self) -> None:
        if not self.result.done():
            self.result.set_exception(NotServingError(_NAME))
