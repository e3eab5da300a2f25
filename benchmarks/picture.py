"""Bars and curves as an SVG, readable on light and dark pages. No library: it is some rectangles and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _NAMES, _VALUES, _GAP, _MARGIN = 880, 216, 74, 20, 24
_ROW, _BAR, _APART = 30, 16, 14
_TOP = 92
_PANEL, _SCALE = 168, 76
"""The height of a panel, and the place of its figures."""

_CHARACTER = 6.7
"""About the width of a letter of the names, to see that they fit."""

_STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de } .title { fill: #1f2328; font-size: 17px; font-weight: 600 }
  .about, .head { fill: #59636e; font-size: 12.5px } .name { fill: #1f2328; font-size: 13px }
  .value { fill: #59636e; font-size: 12.5px; font-variant-numeric: tabular-nums }
  .ours { fill: #0969da } .durable { fill: #57606a } .other { fill: #afb8c1 }
  text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif } .bold { font-weight: 650 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d } .title, .name { fill: #e6edf3 } .about, .head, .value { fill: #9198a1 }
    .ours { fill: #4493f8 } .durable { fill: #9198a1 } .other { fill: #545d68 }
  }
"""

_CURVE_STYLE = """
  .grid { stroke: #d0d7de; stroke-width: 1 } .curve { stroke-width: 2.5 }
  .curve.ours { stroke: #0969da; fill: none } .curve.other { stroke: #afb8c1; fill: none }
  .curve.durable { stroke: #57606a; fill: none }
  @media (prefers-color-scheme: dark) {
    .grid { stroke: #30363d } .curve.ours { stroke: #4493f8 } .curve.other { stroke: #545d68 }
    .curve.durable { stroke: #9198a1 }
  }
"""


@dataclass(frozen=True)
class Bar:
    """A row: one bar for each column. `kind`: ours, durable or other, which is its colour.
    `apart`: with space above.
    """

    name: str
    values: Sequence[float]
    kind: str
    apart: bool = False


def bars(
    title: str, about: str, columns: Sequence[str], rows: Sequence[Bar], legend: Sequence[tuple[str, str]] = ()
) -> str:
    """An SVG. Each column has its own scale, from zero. `legend`: kinds and what they mean."""
    height = _TOP + _ROW * len(rows) + _APART * sum(row.apart for row in rows) + (34 if legend else 12)
    space = (_WIDTH - 2 * _MARGIN - _NAMES) / len(columns) - _VALUES - _GAP
    lefts = [_MARGIN + _NAMES + at * (space + _VALUES + _GAP) for at in range(len(columns))]
    largest = [max(row.values[at] for row in rows) for at in range(len(columns))]
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" '
            f'role="img" aria-label="{escape(title)}">'
        ),
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text("title", _MARGIN, 34, title),
        _text("about", _MARGIN, 56, about),
        *(_text("head", left, _TOP - 12, column) for left, column in zip(lefts, columns, strict=True)),
    ]
    top = _TOP
    for row in rows:
        assert len(row.name) * _CHARACTER < _NAMES, f"{row.name!r} does not fit"
        top += _APART * row.apart
        bold = " bold" if legend and row.kind == "ours" else ""
        parts.append(_text(f"name{bold}", _MARGIN, top + _BAR - 3, row.name))
        for left, most, value in zip(lefts, largest, row.values, strict=True):
            width = max(2.0, space * value / most)
            parts.append(
                f'<rect class="{row.kind}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2"/>'
            )
            parts.append(_text(f"value{bold}", left + width + 6, top + _BAR - 3, f"{value:,.0f}/s"))
        top += _ROW
    left = float(_MARGIN)
    for kind, meaning in legend:
        parts.append(f'<rect class="{kind}" x="{left:.1f}" y="{height - 27}" width="11" height="11" rx="2"/>')
        parts.append(_text("head", left + 17, height - 17, meaning))
        left += 17 + len(meaning) * _CHARACTER + 24
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class Curve:
    """Points from left to right, x and y. `kind`: ours, durable or other, which is its colour."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str


def curves(title: str, about: str, below: str, lines: Sequence[Curve], unit: str = "s") -> str:
    """An SVG of curves with one scale from zero, in a unit. below: what the x axis says."""
    height, top, left = 360, 84, _MARGIN + 36
    bottom, right = height - 66, _WIDTH - _MARGIN
    most_x, most_y = (max(point[at] for line in lines for point in line.points) for at in (0, 1))

    def x(value: float) -> float:
        return left + (right - left) * value / most_x

    def y(value: float) -> float:
        return bottom - (bottom - top) * value / most_y

    step = max(1, round(most_y / 4))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"',
        f'role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}{_CURVE_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text("title", _MARGIN, 34, title),
        _text("about", _MARGIN, 56, about),
    ]
    for value in range(0, int(most_y) + 1, step):
        at = y(value)
        parts.append(f'<line class="grid" x1="{left}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        parts.append(_text("value", _MARGIN, int(at) + 4, f"{value} {unit}"))
    for line in lines:
        points = " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in line.points)
        parts.append(f'<polyline class="curve {line.kind}" points="{points}"/>')
    parts.append(_text("head", left, bottom + 20, f"0 to {most_x:.0f} {below}"))
    at = float(_MARGIN)
    for line in lines:
        parts.append(f'<rect class="{line.kind}" x="{at:.1f}" y="{height - 27}" width="11" height="11" rx="2"/>')
        parts.append(_text("head", at + 17, height - 17, line.name))
        at += 17 + len(line.name) * _CHARACTER + 24
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class Panel:
    """Curves with a scale of their own, in a unit."""

    title: str
    unit: str
    lines: Sequence[Curve]


def panels(title: str, about: str, below: str, boxes: Sequence[Panel]) -> str:
    """An SVG of panels, two in a row, with the same x axis. below: what that says."""
    rows = (len(boxes) + 1) // 2
    height = _TOP - 12 + rows * _PANEL + 16
    most_x = max(point[0] for box in boxes for line in box.lines for point in line.points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"',
        f'role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}{_CURVE_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text("title", _MARGIN, 34, title),
        _text("about", _MARGIN, 56, about),
    ]
    width = (_WIDTH - 3 * _MARGIN) / 2
    for nth, box in enumerate(boxes):
        left, top = _MARGIN + (nth % 2) * (width + _MARGIN), _TOP - 12 + (nth // 2) * _PANEL
        parts += _panel(box, left, top, width, most_x)
    parts.append(_text("head", _MARGIN, height - 14, f"0 to {most_x:.0f} {below}"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(box: Panel, left: float, top: int, width: float, most_x: float) -> list[str]:
    begin, right, above, bottom = left + _SCALE, left + width, top + 30, top + _PANEL - 40
    most_y = max((value for line in box.lines for _, value in line.points), default=0.0) or 1.0
    parts = [_text("name bold", left, top + 14, box.title)]
    for value in (0.0, most_y):
        at = bottom - (bottom - above) * value / most_y
        parts.append(f'<line class="grid" x1="{begin}" y1="{at:.1f}" x2="{right:.1f}" y2="{at:.1f}"/>')
        number = f"{value:,.0f}" if value >= 10 or not value else f"{value:.2g}"
        parts.append(_text("value", left, int(at) + 4, f"{number} {box.unit}"))
    at = begin
    for line in box.lines:
        points = " ".join(
            f"{begin + (right - begin) * one / most_x:.1f},{bottom - (bottom - above) * other / most_y:.1f}"
            for one, other in line.points
        )
        parts.append(f'<polyline class="curve {line.kind}" points="{points}"/>')
        parts.append(f'<rect class="{line.kind}" x="{at:.1f}" y="{bottom + 9}" width="11" height="11" rx="2"/>')
        parts.append(_text("head", at + 17, bottom + 19, line.name))
        at += 17 + len(line.name) * _CHARACTER + 14
    return parts


def _text(kind: str, left: float, bottom: float, words: str) -> str:
    return f'<text class="{kind}" x="{left:.1f}" y="{bottom}">{escape(words)}</text>'
