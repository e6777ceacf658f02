"""What was found, as a table for people and as JSON for programs, and whether it is good enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..version import __version__
from .generator import bottlenecks
from .recording import percentile, to_histogram

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .findings import Findings
    from .plan import Plan

__all__ = ["PERCENTILES", "excesses", "milliseconds", "table", "values"]

PERCENTILES: Final = (50, 90, 99, 99.9, 99.99, 100)
_NAMES: Final = {
    "echo": ("messages sent", "replies"),
    "fanout": ("messages published", "deliveries"),
    "slow": ("messages published", "deliveries"),
    "storm": ("handshakes begun", "handshakes"),
}
_EARLY: Final = 1000  # microseconds before it is due that a message may come: timers count milliseconds
_WIDTH: Final = 13  # of a column


def table(plan: Plan, findings: Findings) -> str:
    """Return what was found, for people."""
    parts = [
        _head(plan, findings),
        _counts(plan, findings),
        _latencies(findings),
        "\n".join(_connections(plan, findings)),
    ]
    remarks = [*(f"generator   the bottleneck: {text}" for text in bottlenecks(findings)), *_remarks(findings)]
    return "\n\n".join([*filter(None, parts), *(["\n".join(remarks)] if remarks else [])])


def _head(plan: Plan, findings: Findings) -> str:
    offered = f"{plan.rate:g} a second" if plan.under_way is None else f"{plan.under_way} under way on each"
    offered = "at the server's own rate" if plan.passive else offered
    return f"{plan.question} {plan.url}\n{plan.connections:,} connections, {offered}, for {plan.duration:g} s"


def _counts(plan: Plan, found: Findings) -> str:
    sent, what = _NAMES[plan.question]
    rate = found.delivered / found.seconds if found.seconds else 0.0
    lines = [] if plan.passive else [f"{found.sent:,} {sent}, {found.sent / found.seconds:,.1f} a second"]
    lines.append(f"{found.delivered:,} of {found.due:,} {what}, {rate:,.1f} a second")
    if plan.question != "storm":
        columns = ("lost", "missed", "doubled", "out_of_order")
        lines += ["", *_row({name.replace("_", " "): getattr(found, name) for name in columns})]
    return "\n".join(lines)


def _row(columns: Mapping[str, object]) -> Iterator[str]:
    yield "".join(f"{name:>{_WIDTH}}" for name in columns)
    yield "".join(
        f"{value:>{_WIDTH},}" if isinstance(value, int) else f"{value:>{_WIDTH}}" for value in columns.values()
    )


def _latencies(found: Findings) -> str:
    if not found.latencies:
        return "latency     unknown: the messages do not say when they were due"
    since = "since it was sent, which waited for an earlier answer" if found.is_closed_loop else "since it was due"
    columns = {_percent(percent): milliseconds(percentile(found.latencies, percent)) for percent in PERCENTILES}
    return "\n".join([f"latency     {since}, in milliseconds", *_row(columns)])


def _percent(percent: float) -> str:
    return "max" if percent == 100 else f"p{percent:g}"


def milliseconds(microseconds: float) -> str:
    """Write a time in milliseconds, with three digits or more."""
    return f"{microseconds / 1000:,.0f}" if microseconds >= 1e6 else f"{microseconds / 1000:.3g}"


def _connections(plan: Plan, found: Findings) -> Iterator[str]:
    took = "" if plan.question == "storm" else f" in {found.opening_seconds:.1f} s"
    yield f"opened      {found.opened:,}{took}"
    if found.refused:
        yield f"refused     {_list(found.refused, 'with {}')}"
    if found.failed:
        yield f"failed      {_list(found.failed, '{}')}"
    if found.closed:
        yield f"closed      {_list(found.closed, 'with {}')}, not by us"
    if found.stalled:
        ended = _list(found.stalled_closed, "closed with {}")
        still = found.stalled - sum(found.stalled_closed.values())
        yield f"stalled     {', '.join(filter(None, [ended, f'{still:,} still open' if still else '']))}"
    late = percentile(found.lateness, 99)
    yield f"generator   {found.busiest:.0%} of a core at most, sent late by {milliseconds(late)} ms (p99)"


def _list(counts: Mapping[Any, int], form: str) -> str:
    return ", ".join(
        f"{count:,} {form.format(key)}" for key, count in sorted(counts.items(), key=lambda item: -item[1])
    )


def _remarks(found: Findings) -> Iterator[str]:
    if found.astray:
        yield f"astray      {found.astray:,} deliveries were for another room"
    if found.foreign:
        yield f"foreign     {found.foreign:,} messages without a number of ours, the first {found.first_foreign}"
    if found.earliest <= -_EARLY:
        ahead = milliseconds(-found.earliest)
        yield f"clocks      deliveries came up to {ahead} ms before they were due: the clocks differ"


def values(plan: Plan, findings: Findings) -> dict[str, Any]:
    """Return what was found, as values of JSON."""
    found = findings.to_values()
    latencies, lateness = found.pop("latencies"), found.pop("lateness")
    return {
        "fastws": __version__,
        "plan": {name: value for name, value in vars(plan).items() if name not in ("json", "plot", "quiet")},
        **found,
        "latency_us": _percentiles(latencies),
        "latency_hdr": to_histogram(latencies).encode().decode() if latencies else None,
        "lateness_us": _percentiles(lateness),
        "bottlenecks": bottlenecks(findings),
        "exceeded": excesses(plan, findings),
    }


def _percentiles(counts: Mapping[int, int]) -> dict[str, int]:
    return {_percent(percent): percentile(counts, percent) for percent in PERCENTILES} if counts else {}


def excesses(plan: Plan, found: Findings) -> list[str]:
    """Say what is worse than the user would have it, a sentence each."""
    wrong = []
    p99 = percentile(found.latencies, 99) / 1000
    if plan.max_p99 is not None and (p99 > plan.max_p99 or not found.latencies):
        reached = f"{p99:.3g} ms" if found.latencies else "unknown: nothing came"
        wrong.append(f"the p99 is {reached}, and --max-p99 is {plan.max_p99:g}")
    lost = found.lost + found.missed
    if plan.max_lost is not None and lost > plan.max_lost:
        wrong.append(f"{lost:,} never came, and --max-lost is {plan.max_lost:,}")
    return wrong
