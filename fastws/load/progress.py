"""What shows while it runs: one line on a terminal, which is written again and again; elsewhere a line a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .recording import add, percentile
from .report import milliseconds
from .run import Snapshot
from .timing import now

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

__all__ = ["INTERVAL", "Progress"]

INTERVAL: Final = 1.0  # seconds
_CLEAR: Final = "\r\x1b[K"  # the line of a terminal


class Progress:
    """Shows how far it is.

    Args:
        stream: where; None, or a `quiet` user, is shown nothing.
    """

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        self._stream = None if quiet else stream
        self._rewrites = self._stream is not None and self._stream.isatty()
        self._start = self._last = now()
        self._delivered = 0

    def show(self, snapshots: Iterable[Snapshot]) -> None:
        """Show how far all processes are."""
        if self._stream is None:
            return
        text = self._line(total(snapshots))
        self._stream.write(f"{_CLEAR}{text}" if self._rewrites else f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the line to what comes."""
        if self._stream is not None and self._rewrites:
            self._stream.write(_CLEAR)
            self._stream.flush()

    def _line(self, at: Snapshot) -> str:
        moment = now()
        rate = (at.delivered - self._delivered) / max(moment - self._last, 1e-3)
        self._last, self._delivered = moment, at.delivered
        line = f"{moment - self._start:4.0f} s  {at.phase}  {at.open:,} open  {at.sent:,} sent  {at.delivered:,} came"
        if at.latencies:
            half, most = (milliseconds(percentile(at.latencies, percent)) for percent in (50, 99))
            line += f" ({rate:,.0f} a second)  p50 {half} ms  p99 {most} ms"
        return line


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return what several processes have done together."""
    found = Snapshot("starting", 0, 0, 0)
    for each in snapshots:
        found.phase = each.phase
        found.open += each.open
        found.sent += each.sent
        found.delivered += each.delivered
        add(found.latencies, each.latencies)
    return found
