"""How the generator itself does, so that nobody takes its own limits for those of a server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from .recording import percentile
from .timing import now

if TYPE_CHECKING:
    from .findings import Findings

__all__ = ["Effort", "bottlenecks"]

_BUSY: Final = 0.9  # of a core, from which on there is no saying who was waiting for whom
_NOTICEABLE: Final = 0.001  # seconds: less is what a turn of an event loop takes
_PART: Final = 0.2  # of the latency at the same percentile, from which on the sender's own lateness counts


class Effort:
    """The share of a core that this process takes, second by second.

    Attributes:
        busiest: the greatest so far.
    """

    def __init__(self) -> None:
        self.busiest = 0.0
        self._time, self._cpu = now(), time.process_time()

    def look(self) -> None:
        """Look at what was taken since the last look."""
        moment, cpu = now(), time.process_time()
        self.busiest = max(self.busiest, (cpu - self._cpu) / max(moment - self._time, 1e-9))
        self._time, self._cpu = moment, cpu


def bottlenecks(findings: Findings) -> list[str]:
    """Say where the generator was the bottleneck, a sentence each; nothing where it was not."""
    found = []
    if findings.busiest >= _BUSY:
        found.append(f"it took {findings.busiest:.0%} of a core in its busiest second")
    if findings.reading_share >= _BUSY and findings.reading_time >= _NOTICEABLE:
        found.append(
            f"it was busy for {findings.reading_share:.0%} of the {findings.reading_time * 1000:.3g} ms between the "
            f"first and the last delivery of a message: they waited for it"
        )
    late, latency = (percentile(times, 99) / 1e6 for times in (findings.lateness, findings.latencies))
    if late >= max(_NOTICEABLE, _PART * latency):
        found.append(
            f"one message in a hundred left it {late * 1000:.3g} ms late, beside a p99 of {latency * 1000:.3g} ms"
        )
    return found
