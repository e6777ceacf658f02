"""The place of one worker among all: somebody has it, whoever ends or is replaced.

Theory of operation. A worker that ends is started again, after a pause that grows while it keeps ending. One that is to
be replaced gets a successor first, which starts, is connected to all, and accepts; then the predecessor accepts no more
and closes its clients over its part of the time. Both are nodes of their own meanwhile, and what is pushed reaches each
client on the one that it is connected to. A successor that cannot start changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from ..errors import StartError
from ..logs import Log
from .child import Child, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Place"]

logger = Log("fastws")

FIRST_DELAY: Final = 0.1  # seconds until a worker is started again
LONGEST_DELAY: Final = 5.0  # seconds
START_TIMEOUT: Final = 120.0  # seconds until a successor serves
STEADY: Final = 10.0  # seconds that a worker lives if nothing is wrong with it


class Place:
    """Has a worker, from the first one on.

    Args:
        start: starts one, as the successor of another one if that is given.
        ending: set when all shall end.

    Attributes:
        worker: that has the place, the last one where the next is not started yet.
    """

    def __init__(self, start: Callable[[Child | None], Child], ending: asyncio.Event) -> None:
        self._start = start
        self._ending = ending
        self._lock = asyncio.Lock()  # one at a time is started
        self.worker = start(None)

    async def keep(self) -> None:
        """Start another one whenever it ends, until all shall."""
        delay = FIRST_DELAY
        while True:
            worker = self.worker
            await _first_of(worker.ended, worker.relieved)
            if self._ending.is_set() and worker.ended.done():
                return
            if worker.relieved.done():
                continue
            if worker.lifetime >= STEADY:
                delay = FIRST_DELAY
            if worker.failure is not None:
                logger.error("%s cannot start: %s", worker.name, worker.failure)
            logger.warning("%s %s and is started again in %s seconds", worker.name, worker.ended.result(), delay)
            if await self._ends_within(delay):
                return
            delay = min(2 * delay, LONGEST_DELAY)
            async with self._lock:
                self._start_again(worker)

    def _start_again(self, worker: Child) -> None:
        if worker.relieved.done() or self._ending.is_set():
            return
        try:
            self.worker = self._start(None)
        except OSError as error:
            logger.error("%s cannot be started: %s", worker.name, error)
            worker.lifetime = 0.0

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        return self._ending.is_set()

    # --- It is replaced.

    async def replace(self, over: float, closing_time: float) -> None:
        """Give the place to a successor, and wait until the worker that had it has ended.

        Args:
            over: seconds over which it closes its clients.
            closing_time: seconds that it may take to end then, until it is killed.

        Raises:
            OSError: there is no process for a successor.
            StartError: it does not serve.
            ConfigurationError: likewise.
        """
        async with self._lock:
            old = self.worker
            if old.stage is Stage.ENDED:
                return  # it is about to be started again
            new = self._start(old)
            await self._until_ready(new)
            self.worker = new
            old.relieved.set_result(None)
        await self._relieve(old, over, closing_time)

    async def _relieve(self, old: Child, over: float, closing_time: float) -> None:
        if old.stage is Stage.READY:
            old.send("yield", over=over)
        else:
            old.send("close")  # it was about to take the place of one that died
        asyncio.get_running_loop().call_later(over + closing_time, old.kill)
        await _first_of(old.ended)  # which outlives this task

    async def _until_ready(self, worker: Child) -> None:
        await _first_of(worker.ready, worker.ended, timeout=START_TIMEOUT)
        if worker.ended.done():
            raise worker.why_not()
        if not worker.ready.done():
            worker.kill()
            raise StartError(f"{worker.name} does not serve after {START_TIMEOUT} seconds")


async def _first_of(*futures: asyncio.Future[Any], timeout: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
