"""Workers that accept at the same sockets: each takes its share of the connections, and a little more.

Theory of operation. The kernel wakes all workers for a connection, and whoever is first gets it: the one that is least
busy, or the one that was asked first, so that one of four may have most of them. Here a worker with more than its share
steps back for a moment and leaves what waits to the others (`listening.py`). All of them see how many each has in a
small table in shared memory, a row for each, written by its owner alone. What they read may be a moment old, and then
somebody has one more or one less.

Others may hang, in a handler that takes long or stopped by a debugger. When somebody has stepped back for a while and
no other worker has begun to accept meanwhile, those that should have are passed over, until they are seen to accept
again: nobody waits for them, and what a share is is reckoned without them. Nothing is polled while no client waits.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STEP_BACK", "Share", "Table"]

STEP_BACK: Final = 0.002  # seconds that a connection is left to others, until we look again
PATIENCE: Final = 0.05  # seconds in which nobody takes it, until it is ours
SLACK: Final = 4  # connections beyond the share
SLACK_PART: Final = 0.02  # of the share, where that is more

# A row is a cache line, so that no worker slows down another by what it writes
_ROW: Final = 8
_SIZE: Final = 8  # bytes of a number
_ALIVE, _OPEN, _TURNS = range(3)


class Table:
    """What workers know of each other: a row for each, in memory that they share.

    Args:
        descriptor: of the memory, as `create` opened it; it may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self.cells = memoryview(memory).cast("q")

    @staticmethod
    def create(workers: int) -> int:
        """Make the memory for so many workers, and return its descriptor."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("fastws")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, workers * _ROW * _SIZE)
        return descriptor

    def clear(self, number: int) -> None:
        """Note that a worker has ended, whatever it said last."""
        self.cells[number * _ROW + _ALIVE] = 0


class Share:
    """The share of one worker.

    Args:
        table: of all workers.
        number: of this one, from 0 on.
    """

    def __init__(self, table: Table, number: int) -> None:
        self._cells = table.cells
        self._own = number * _ROW
        self._others = [row for row in range(0, len(table.cells), _ROW) if row != self._own]
        self._count: Callable[[], int] = int
        self._passed_over: dict[int, int] = {}  # rows of those that hang, each with its turns when that was seen
        self._since: float | None = None  # when we began to leave a connection to others
        self._seen: list[int] = []  # the turns of the others then

    # --- What it tells the others.

    def begin(self, count: Callable[[], int]) -> None:
        """Accept from now on.

        Args:
            count: tells how many connections are open.
        """
        self._count = count
        self.refresh()
        self._cells[self._own + _ALIVE] = 1

    def end(self) -> None:
        """Accept nothing more."""
        self._cells[self._own + _ALIVE] = 0

    def leave(self) -> bool:
        """Be no reason for others to accept less, and tell whether there are any that accept."""
        self.end()
        return any(self._cells[row + _ALIVE] for row in self._others)

    def refresh(self) -> None:
        """Tell how many connections are open: they came or went."""
        self._cells[self._own + _OPEN] = self._count()

    # --- What it learns from them.

    def room(self, now: float) -> int:
        """Return how many connections we may accept now; 0 if they are for others.

        Args:
            now: seconds of a clock that never goes back.
        """
        room = self._room()
        if not room and self._is_patience_over(now):
            self._pass_over()
            room = max(1, self._room())
        if room:
            self._since = None
            self._cells[self._own + _TURNS] += 1
        return room

    def nobody_waits(self) -> None:
        """Note that what was left to others has been taken."""
        self._since = None

    def _room(self) -> int:
        return max(0, int(self._most()) - self._cells[self._own + _OPEN])

    def _most(self) -> float:
        """Return how many connections any of us may have, with the one that comes."""
        cells = self._cells
        total, workers = cells[self._own + _OPEN] + 1, 1
        for row in self._others:
            if cells[row + _ALIVE] and not self._is_passed_over(row):
                total += cells[row + _OPEN]
                workers += 1
        share = total / workers
        return share + max(SLACK, share * SLACK_PART)

    def _is_patience_over(self, now: float) -> bool:
        seen = self._turns_of_others()
        if self._since is None or seen != self._seen:
            self._since, self._seen = now, seen
        return now - self._since >= PATIENCE

    def _turns_of_others(self) -> list[int]:
        return [self._cells[row + _TURNS] for row in self._others]

    def _pass_over(self) -> None:
        """Reckon without those that had room all the while and did not accept."""
        cells, most = self._cells, self._most()
        for row in self._others:
            if cells[row + _ALIVE] and cells[row + _OPEN] + 1 <= most:
                self._passed_over[row] = cells[row + _TURNS]

    def _is_passed_over(self, row: int) -> bool:
        if not self._passed_over or row not in self._passed_over:
            return False
        if self._passed_over[row] == self._cells[row + _TURNS]:
            return True
        del self._passed_over[row]
        return False
