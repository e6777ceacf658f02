"""What was found, by one process or by several together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from .recording import add

__all__ = ["Findings"]

_GREATEST: Final = frozenset(
    {"seconds", "opening_seconds", "busiest", "reading_share", "reading_time", "is_closed_loop"}
)
_LEAST: Final = frozenset({"earliest"})
_NUMBERED: Final = frozenset({"latencies", "lateness", "refused", "closed", "stalled_closed"})


@dataclass
class Findings:
    """What came of it. Times are microseconds where nothing else is said.

    Attributes:
        seconds: how long it was measured, in seconds.
        sent: messages that were sent while it was measured, or handshakes that were begun.
        due: deliveries that were due.
        delivered: of these, how many came.
        lost: how many never came to subscribers that were there to the end, or that a later one overtook.
        missed: how many were due to subscribers whose connection had ended.
        doubled: deliveries that came once more.
        out_of_order: deliveries that a later one overtook.
        astray: deliveries that were for other rooms.
        foreign: messages in which no number of ours was found.
        first_foreign: the first of these, or "".
        latencies: from when a message was due until it came, and how often.
        earliest: the least latency if it is negative: the clocks differ by that at least.
        opened: connections that were opened, and `opening_seconds` how long that took.
        refused: opening handshakes that were answered with another status than 101, by status.
        failed: connections that failed before that, by what went wrong.
        closed: connections that ended before we closed them, by close code.
        stalled: connections that did not read, and `stalled_closed` how those that ended did, by close code.
        lateness: by how much messages were sent late.
        busiest: the share of a core that the generator took, in its busiest second.
        reading_share: likewise in the time between the first and the last delivery of a message.
        reading_time: how long that is on average, in seconds.
        is_closed_loop: latencies begin when a message was sent, which was when an earlier one was answered.
    """

    seconds: float = 0.0
    sent: int = 0
    due: int = 0
    delivered: int = 0
    lost: int = 0
    missed: int = 0
    doubled: int = 0
    out_of_order: int = 0
    astray: int = 0
    foreign: int = 0
    first_foreign: str = ""
    latencies: dict[int, int] = field(default_factory=dict)
    earliest: int = 0
    opened: int = 0
    opening_seconds: float = 0.0
    refused: dict[int, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    closed: dict[int, int] = field(default_factory=dict)
    stalled: int = 0
    stalled_closed: dict[int, int] = field(default_factory=dict)
    lateness: dict[int, int] = field(default_factory=dict)
    busiest: float = 0.0
    reading_share: float = 0.0
    reading_time: float = 0.0
    is_closed_loop: bool = False

    def include(self, other: Findings) -> None:
        """Have what another process found be a part of this."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            if isinstance(own, dict):
                add(own, value)
            elif isinstance(own, str):
                setattr(self, name, own or value)
            elif name in _GREATEST:
                setattr(self, name, max(own, value))
            else:
                setattr(self, name, min(own, value) if name in _LEAST else own + value)

    def to_values(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        return dict(vars(self))

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> Findings:
        """Return what `to_values` made values of: JSON has made text of numbers that were keys."""
        with_numbers: dict[str, Any] = {name: _with_numbers(values[name]) for name in _NUMBERED}
        return cls(**values | with_numbers)


def _with_numbers(counts: dict[str, int]) -> dict[int, int]:
    return {int(key): count for key, count in counts.items()}
