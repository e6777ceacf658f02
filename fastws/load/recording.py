"""What is noted while it runs: how long deliveries took, and what each subscriber got of the numbered messages.

Both are in the way of every delivery, so a latency is one more in a dict and an expected message one comparison. The
dict's keys are rounded as a HdrHistogram with three digits rounds them, which is made of it at the end, once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hdrh.histogram import HdrHistogram

__all__ = ["Latencies", "Stream", "add", "percentile", "require_histograms", "to_histogram"]

_K = TypeVar("_K", int, str)

HIGHEST: Final = 3_600_000_000  # microseconds that a histogram reaches: an hour
_DIGITS: Final = 3
_EXACT_BITS: Final = 11  # 2048 steps for a number, as three digits take them
_GAP: Final = 128  # missing messages of a subscriber that may still come, at most


class Latencies:
    """How long something took, in microseconds.

    Attributes:
        counts: how often each time was noted, since the last `take`.
        earliest: the least that was noted, negative where the clocks of two machines differ.
    """

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.earliest = 0
        self._taken: dict[int, int] = {}

    def note(self, seconds: float) -> None:
        """Note a latency."""
        time = int(seconds * 1e6)
        if time >> _EXACT_BITS:
            if time < 0:
                self.earliest = min(self.earliest, time)
                time = 0
            lost_bits = time.bit_length() - _EXACT_BITS
            if lost_bits > 0:
                time = time >> lost_bits << lost_bits
        self.counts[time] = self.counts.get(time, 0) + 1

    def take(self) -> dict[int, int]:
        """Return the counts since the last call, which have their place in `total` from here on."""
        recent, self.counts = self.counts, {}
        add(self._taken, recent)
        return recent

    def total(self) -> dict[int, int]:
        """Return the counts of all."""
        self.take()
        return self._taken


def add(total: dict[_K, int], more: Mapping[_K, int]) -> None:
    """Add counts to others."""
    for time, count in more.items():
        total[time] = total.get(time, 0) + count


def percentile(counts: Mapping[int, int], percent: float) -> int:
    """Return the time in microseconds that so many of a hundred do not exceed, or 0 if there is none."""
    wanted = max(1, math.ceil(sum(counts.values()) * percent / 100 - 1e-9))
    for time in sorted(counts):
        wanted -= counts[time]
        if wanted <= 0:
            return time
    return 0


def to_histogram(counts: Mapping[int, int]) -> HdrHistogram:
    """Return the counts as a HdrHistogram of microseconds, with three digits."""
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, HIGHEST, _DIGITS)
    for time, count in counts.items():
        histogram.record_value(min(time, HIGHEST), count)
    return histogram


def require_histograms() -> None:
    """Check that the library is there, before anything is measured.

    Raises:
        ConfigurationError: it is not; the message says how to get it.
    """
    try:
        import hdrh.histogram  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(f"--json needs hdrhistogram ({error}): pip install 'fastws[load]'") from None


class Stream:
    """What one subscriber gets of numbered messages: those that leave `phase` when divided by `step`.

    A message that a later one overtook is missing until it comes, and then out of order; what is missing at the end is
    lost. A number that was there is doubled.

    Attributes:
        next: the number that comes next, or -1 while nothing is counted.
        astray: how many came that are for others.
    """

    __slots__ = ("_first", "_given_up", "_missing", "_phase", "astray", "doubled", "next", "out_of_order", "step")

    def __init__(self, step: int = 1, phase: int = 0) -> None:
        self.step = step
        self.next = -1
        self._phase = phase
        self.doubled = self.out_of_order = self.astray = 0
        self._first = 0
        self._given_up = 0
        self._missing: dict[int, None] | None = None

    def begin(self, first: int) -> None:
        """Count from this number on."""
        self.next = self._first = first + (self._phase - first) % self.step

    def take(self, seq: int) -> bool:
        """Note a number; whether it is one that was due and had not come."""
        if seq == self.next:
            self.next += self.step
            return True
        if self.next < 0 or seq < self._first:
            return False
        if (seq - self._first) % self.step:
            self.astray += 1
            return False
        if seq > self.next:
            self._miss(range(self.next, seq, self.step))
            self.next = seq + self.step
            return True
        if self._missing and seq in self._missing:
            del self._missing[seq]
            self.out_of_order += 1
            return True
        self.doubled += 1
        return False

    def _miss(self, numbers: Iterable[int]) -> None:
        """Wait for these; of very many the oldest will not come, and would fill the memory."""
        self._missing = self._missing or {}
        for number in numbers:
            self._missing[number] = None
            if len(self._missing) > _GAP:
                del self._missing[next(iter(self._missing))]
                self._given_up += 1

    def lost(self) -> int:
        """Return how many were overtaken and never came."""
        return self._given_up + len(self._missing or ())

    def behind(self, end: int) -> int:
        """Return how many of those before `end` have not come, behind the last that did."""
        return len(range(self.next, end, self.step)) if self.next >= 0 else 0

    def due(self, end: int) -> int:
        """Return how many of those before `end` are counted."""
        return len(range(self._first, end, self.step)) if self.next >= 0 else 0
