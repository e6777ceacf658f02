"""What a signal that ends a server means: each of them goes a step further than those before it."""

from __future__ import annotations

import enum
import signal
from typing import Final

__all__ = ["DRAINING", "Escalation", "Step"]

# Where there is one; a service may have set a handler of its own, which stays
DRAINING: Final[tuple[int, ...]] = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()


class Step(enum.IntEnum):
    """How far the end has come."""

    NONE = 0
    DRAIN = 1
    CLOSE = 2
    HURRY = 3
    KILL = 4


class Escalation:
    """The signals that one process got.

    Args:
        drains: whether the first SIGTERM drains.
    """

    def __init__(self, drains: bool) -> None:
        self._drains = drains
        self._step = Step.NONE

    def next(self, number: int) -> Step:
        """Return what the signal that came means; NONE is nothing, for who is asked to drain twice."""
        if number in DRAINING:
            return self._go(Step.DRAIN) if self._step is Step.NONE else Step.NONE
        if self._step is Step.NONE:
            return self._go(Step.DRAIN if self._drains and number == signal.SIGTERM else Step.CLOSE)
        return self._go(Step(min(self._step + 1, Step.KILL)))

    def _go(self, step: Step) -> Step:
        self._step = step
        return step
