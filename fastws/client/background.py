"""One event loop in a thread of its own, on which all blocking connections of a process live.

The thread begins with the first of them and ends with the interpreter, which closes with 1001 what is open then. Who
calls waits for a `concurrent.futures.Future`, which Ctrl-C interrupts; then what was called is cancelled, and what it
had brought already is handed to who can keep it. A child of a fork has the memory of that thread, but not the thread:
it gets one of its own, and the connections of its parent are of no use to it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, ClassVar, Final, TypeVar

from ..errors import ForkedProcessError, StartError

__all__ = ["Background", "Closer"]

CLOSE_TIME: Final = 2.0  # seconds that closing handshakes have at the end of the interpreter

Closer = Callable[[], Coroutine[Any, Any, None]]
"""What closes something, with a bound on how long that takes."""

_T = TypeVar("_T")


class Background:
    """An event loop in a thread of its own, to be called from all others."""

    _lock: ClassVar = threading.Lock()
    _shared: ClassVar[Background | None] = None

    @classmethod
    def shared(cls) -> Background:
        """Return the one of this process; the first call starts it."""
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            return cls._shared

    @classmethod
    def begin_in_child(cls) -> None:
        """Know nothing of the one of the process that this one was forked from."""
        cls._lock = threading.Lock()
        cls._shared = None

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closers: set[Closer] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event
        started = threading.Event()
        self._thread = threading.Thread(target=_run, args=(self._live(started),), name="fastws.sync", daemon=True)
        self._thread.start()
        started.wait()
        atexit.register(self.end)

    def call(
        self, name: str, function: Callable[[], Awaitable[_T]], orphaned: Callable[[_T], object] | None = None
    ) -> _T:
        """Await what a function returns, on the loop, and wait here for what comes of it.

        Args:
            name: of what the user called, for errors.
            function: called on the loop.
            orphaned: called on the loop with what came of it, where nobody waits for that any more.

        Raises:
            ForkedProcessError: this is a child of the process in which the loop is.
            StartError: the interpreter ends.
        """
        answer: Future[_T] = Future()
        tasks: list[asyncio.Task[None]] = []
        loop = self._checked_loop(name)
        try:
            # Within, since Ctrl-C may come at any moment
            loop.call_soon_threadsafe(_begin, tasks, answer, function, orphaned)
            return answer.result()
        except BaseException as error:
            if not answer.done() or answer.exception() is not error:  # Ctrl-C, or another signal's handler that raised
                loop.call_soon_threadsafe(_abandon, answer, tasks, orphaned)
            raise
        finally:
            del answer, tasks  # an error that is raised knows this frame, and the answer the error

    def run(self, callback: Callable[[], object]) -> None:
        """Have the loop call something, for which nobody waits; where there is no loop any more nothing happens."""
        if self._loop is not None and self._pid == os.getpid():
            self._loop.call_soon_threadsafe(callback)

    def keep(self, close: Closer) -> None:
        """Have something closed at the end of the interpreter; to be called on the loop."""
        self._closers.add(close)

    def forget(self, close: Closer) -> None:
        """Keep something no longer; to be called on the loop."""
        self._closers.discard(close)

    def end(self) -> None:
        """Close what is kept, and end the thread."""
        loop, self._loop = self._loop, None
        if loop is not None and self._pid == os.getpid():
            loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    def _checked_loop(self, name: str) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            raise ForkedProcessError(name)
        if self._loop is None:
            raise StartError(f"{name}: the interpreter ends, and nothing is begun any more")
        return self._loop

    async def _live(self, started: threading.Event) -> None:
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        started.set()
        await self._end.wait()
        if closing := [asyncio.ensure_future(close()) for close in self._closers]:
            await asyncio.wait(closing, timeout=CLOSE_TIME)


def _begin(
    tasks: list[asyncio.Task[None]],
    answer: Future[_T],
    function: Callable[[], Awaitable[_T]],
    orphaned: Callable[[_T], object] | None,
) -> None:
    """On the loop."""
    tasks.append(asyncio.ensure_future(_answer(answer, function, orphaned)))


async def _answer(
    answer: Future[_T], function: Callable[[], Awaitable[_T]], orphaned: Callable[[_T], object] | None
) -> None:
    try:
        result = await function()
    except asyncio.CancelledError:
        answer.cancel()
        raise
    except BaseException as error:
        if answer.set_running_or_notify_cancel():
            answer.set_exception(error)
        del answer  # likewise
        return
    if answer.set_running_or_notify_cancel():
        answer.set_result(result)
    elif orphaned is not None:
        orphaned(result)


def _abandon(answer: Future[_T], tasks: list[asyncio.Task[None]], orphaned: Callable[[_T], object] | None) -> None:
    """On the loop, for somebody who was interrupted: cancel what is under way, or keep what is done."""
    if answer.cancel():
        for task in tasks:
            task.cancel()
    elif not answer.cancelled() and answer.exception() is None and orphaned is not None:
        orphaned(answer.result())


def _run(life: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # where there is none
        asyncio.run(life)
    else:
        uvloop.run(life)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Background.begin_in_child)
