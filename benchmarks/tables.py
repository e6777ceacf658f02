"""Numbers as people read them, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

Row = dict[str, str]


def bytes_text(size: int) -> str:
    """A payload size: exact."""
    for unit, length in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % length == 0:
            return f"{size // length} {unit}"
    return f"{size} B"


def memory_text(size: float) -> str:
    """Measured memory: about."""
    for unit, length in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(size) >= length:
            return f"{size / length:.3g} {unit}"
    return f"{size:.0f} B"


def time_text(seconds: float) -> str:
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def table(rows: list[Row]) -> str:
    """Markdown; the first column is what a row is about."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([row.get(name, "") for name in names] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def grouped(samples: Iterable[dict], *keys: str) -> dict[tuple, list[dict]]:
    groups: dict[tuple, list[dict]] = {}
    for sample in samples:
        groups.setdefault(tuple(sample[key] for key in keys), []).append(sample)
    return groups


def spread(values: list[float]) -> str:
    """How far the lowest and the highest lie from the median."""
    middle = median(values)
    return f"{min(values) / middle - 1:+.0%} {max(values) / middle - 1:+.0%}" if middle else ""
