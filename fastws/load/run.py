"""What a question is given by the process that asks it, which may be one of several."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .addresses import local_addresses, raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .plan import Plan

__all__ = ["Question", "Run", "Snapshot"]


@dataclass
class Snapshot:
    """How far it is, for who watches.

    Attributes:
        phase: what is done now, in a word or two.
        open: connections.
        sent: messages, or handshakes that were begun.
        delivered: deliveries that count, or handshakes that are done.
        latencies: of those since the last snapshot, in microseconds, and how often.
    """

    phase: str
    open: int
    sent: int
    delivered: int
    latencies: dict[int, int] = field(default_factory=dict)


class Question(Protocol):
    """A kind of load, and what is to be found out with it."""

    def snapshot(self) -> Snapshot:
        """Tell how far it is."""


@dataclass(frozen=True)
class Run:
    """A process's part.

    Attributes:
        plan: what is asked.
        numbers: of the connections that are this process's.
        is_first: whether it does what is done once.
        together: gives the greatest of what all processes say at this point, when all have said it.
        watch: has a question watched from now on.
    """

    plan: Plan
    numbers: Sequence[int]
    is_first: bool
    together: Callable[[float], Awaitable[float]]
    watch: Callable[[Question], None]

    def prepare(self, at_once: int, total: int) -> list[str]:
        """Have room for so many connections at once, and return the addresses to dial from for so many in all.

        Raises:
            ConfigurationError: the system does not give that.
        """
        raise_file_limit(at_once)
        return local_addresses(self.plan, total)
