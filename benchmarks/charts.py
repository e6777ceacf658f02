"""Bars as SVG, without a library: the same figures always give the same bytes, readable on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

WIDTH, COLUMNS = 880, 2
LABEL, VALUE, GAP = 128, 66, 16  # widths: beside a bar, and between panels
BAR, STEP, HEAD, FOOT = 11, 16, 34, 10  # heights
STYLE = """
    text { font: 11px system-ui, sans-serif; fill: #24292f }
    .title { font-weight: 600 }
    .own { fill: #0969da } .floor { fill: #8c959f } .other { fill: #c8912c }
    .spread { stroke: #24292f; stroke-width: 1 }
    @media (prefers-color-scheme: dark) {
      text { fill: #d0d7de } .spread { stroke: #d0d7de }
      .own { fill: #4493f8 } .floor { fill: #6e7681 } .other { fill: #d4a72c }
    }
"""


@dataclass(frozen=True)
class Bar:
    """One figure: its median, its lowest and highest sample, and how it is written."""

    label: str
    middle: float
    lowest: float
    highest: float
    text: str

    @property
    def kind(self) -> str:
        own = self.label.startswith("fastws")
        return "own" if own else "floor" if self.label == "floor" else "other"


@dataclass(frozen=True)
class Panel:
    """Bars that are compared with each other."""

    title: str
    bars: list[Bar]

    @property
    def height(self) -> int:
        return HEAD + STEP * len(self.bars) + FOOT


def chart(title: str, panels: list[Panel]) -> str:
    """Draw panels in two columns, each with a scale of its own that begins at nothing."""
    rows = [panels[first : first + COLUMNS] for first in range(0, len(panels), COLUMNS)]
    parts, top = [], 8
    for row in rows:
        for column, panel in enumerate(row):
            parts += draw(panel, 8 + column * (panel_width() + GAP), top)
        top += max(panel.height for panel in row)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def panel_width() -> int:
    return (WIDTH - 16 - GAP * (COLUMNS - 1)) // COLUMNS


def draw(panel: Panel, left: int, top: int) -> list[str]:
    scale = (panel_width() - LABEL - VALUE) / (max((bar.highest for bar in panel.bars), default=0) or 1)
    parts = [f'<text class="title" x="{left}" y="{top + 16}">{escape(panel.title)}</text>']
    for number, bar in enumerate(panel.bars):
        parts += draw_bar(bar, left + LABEL, top + HEAD - 8 + number * STEP, scale)
    return parts


def draw_bar(bar: Bar, x: int, y: int, scale: float) -> list[str]:
    end, lowest, highest = (x + value * scale for value in (bar.middle, bar.lowest, bar.highest))
    line, middle = y + BAR - 2, y + BAR / 2
    return [
        f'<text x="{x - 6}" y="{line}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{bar.kind}" x="{x}" y="{y}" width="{max(end - x, 0.5):.1f}" height="{BAR}"/>',
        f'<line class="spread" x1="{lowest:.1f}" y1="{middle}" x2="{highest:.1f}" y2="{middle}"/>',
        f'<text x="{highest + 5:.1f}" y="{line}">{escape(bar.text)}</text>',
    ]
