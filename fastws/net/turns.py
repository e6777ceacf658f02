"""Turns for all: what one turn of the loop does for connections that have much to say.

Each connection does a bounded amount at once and lets others go first, but a thousand of them still make a turn of the
loop long. So they share a budget for each turn, and who finds it used up goes on in one of the next turns, in the order
in which they came.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Turns"]

ANSWERS_OF_TURN: Final = 64  # answers, or as much work, in a turn


class Turns:
    """The budget of a loop's turn, and those who wait for the next.

    Args:
        loop: whose turns are counted.
    """

    __slots__ = ("_loop", "_renewing", "_spent", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._spent = 0
        self._renewing = False

    def has_room(self) -> bool:
        """Whether something may be done now."""
        return self._spent < ANSWERS_OF_TURN

    def spend(self, work: int) -> None:
        """Note that something was done, and how much it was: an answer is about one."""
        self._spent += work
        self._renew_soon()

    def wait(self, callback: Callable[[], None]) -> None:
        """Call it when all who wait already have had their turn."""
        self._waiting.append(callback)
        self._renew_soon()

    def _renew_soon(self) -> None:
        if not self._renewing:
            self._renewing = True
            self._loop.call_soon(self._renew)

    def _renew(self) -> None:
        self._renewing = False
        self._spent = 0
        try:
            for _ in range(len(self._waiting)):
                if not self.has_room():
                    break
                self._waiting.popleft()()
        finally:
            if self._waiting:
                self._renew_soon()
