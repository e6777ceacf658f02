"""Latencies as a curve over percentiles, from half of them to 99.99 of a hundred: what is rare has as much room."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError
from .recording import percentile

if TYPE_CHECKING:
    from .findings import Findings
    from .plan import Plan

__all__ = ["plot", "require_plots"]

_MARKS: Final = (0, 50, 90, 99, 99.9, 99.99)
_POINTS: Final = 400  # of the curve
_RAREST: Final = 1e-4  # the part that is beyond the last percentile


def require_plots() -> None:
    """Check that the library is there, before anything is measured.

    Raises:
        ConfigurationError: it is not; the message says how to get it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(f"--plot needs matplotlib ({error}): pip install 'fastws[load]'") from None


def plot(plan: Plan, findings: Findings, path: str) -> None:
    """Draw the latencies into a file, SVG or PNG by its name.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="percentile", ylabel="latency in milliseconds", yscale="log")
    rarities = [_RAREST ** (place / _POINTS) for place in range(_POINTS + 1)]
    times = [max(1, percentile(findings.latencies, 100 * (1 - rarity))) / 1000 for rarity in rarities]
    axes.plot([_place(rarity) for rarity in rarities], times, drawstyle="steps-pre")
    axes.set_xticks([_place(1 - mark / 100) for mark in _MARKS], [f"{mark:g}" for mark in _MARKS])
    axes.grid(alpha=0.3)
    axes.set_title(f"{plan.question} {plan.url}: {plan.connections:,} connections, {findings.delivered:,} came")
    # The same figures make the same file
    with rc_context({"svg.hashsalt": "fastws"}):
        figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def _place(rarity: float) -> float:
    """Where a percentile is drawn: each nine more is one step on."""
    return -math.log10(rarity)
