"""The picture of a day: how much each hour has to do, and below it a line for each entry with what comes when.

Made as those of `charts` are. Unlike them it is no image but a group of links: each line leads to its entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from cgk_tasks.dashboard.charts import WIDTH, shortened

_LABELS: Final = 250
_ROW: Final = 26
"""High enough for a finger: a line is a link."""
_BARS_TOP: Final = 34
_BARS: Final = 70
_LINES_TOP: Final = _BARS_TOP + _BARS + 46
_MARK: Final = 5
_LEAST_BAND: Final = 8
_BAND_TEXT: Final = 90
"""A band has room for its number of ticks if it is so wide."""
_TICKS_APART: Final = 2
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Span:
    """What comes between two moments, or at one of them. note: what stands in it, where there is room."""

    begins: datetime
    ends: datetime
    note: str = ""

    @property
    def is_mark(self) -> bool:
        return self.begins == self.ends


@dataclass(frozen=True, slots=True)
class Line:
    """An entry. said: all of it in words, for who does not see it. look: `active`, or what keeps it from coming."""

    label: str
    said: str
    link: str
    look: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Hour:
    """How much comes in an hour. is_busy: it is one of those that have the most."""

    begins: datetime
    ticks: int
    runs: int
    is_busy: bool = False


def day(hours: Sequence[Hour], lines: Sequence[Line], *, title: str, description: str) -> str:
    """SVG, on one axis of time in UTC over these hours."""
    height = _LINES_TOP + _ROW * len(lines) + 4
    picture = Element("svg", {
        "class": "chart day", "viewBox": f"0 0 {WIDTH} {height}", "role": "group",
        "aria-labelledby": "day-title", "aria-describedby": "day-description",
    })  # fmt: skip
    SubElement(picture, "title", id="day-title").text = title
    SubElement(picture, "desc", id="day-description").text = description
    scale = _Scale(hours[0].begins, hours[-1].begins + _HOUR)
    axis = SubElement(picture, "g", {"aria-hidden": "true"})  # the tables have the same
    _axis(axis, hours, scale, height)
    _bars(axis, hours, scale)
    for place, line in enumerate(lines):
        _line(picture, line, _LINES_TOP + _ROW * place, scale)
    return tostring(picture, encoding="unicode")


@dataclass(frozen=True, slots=True)
class _Scale:
    begin: datetime
    end: datetime

    def at(self, moment: datetime) -> float:
        return _LABELS + (WIDTH - _LABELS) * ((moment - self.begin) / (self.end - self.begin))


def _axis(axis: Element, hours: Sequence[Hour], scale: _Scale, height: float) -> None:
    for place, hour in enumerate(hours):
        x = scale.at(hour.begins)
        at = {"x1": f"{x:.2f}", "y1": "18", "x2": f"{x:.2f}", "y2": f"{height}", "class": "grid"}
        SubElement(axis, "line", at)
        if place % _TICKS_APART == 0:
            _text(axis, x + 2, 12, f"{hour.begins.astimezone(UTC):%H:%M}", "tick")


def _bars(axis: Element, hours: Sequence[Hour], scale: _Scale) -> None:
    most = max((hour.runs for hour in hours), default=0) or 1
    floor = _BARS_TOP + _BARS
    _text(axis, 0, floor - 4, "Runs an hour, at most", "label")
    _text(axis, 0, floor + 16, "Ticks an hour", "label")
    for hour in hours:
        left, right = scale.at(hour.begins), scale.at(hour.begins + _HOUR)
        tall = _BARS * hour.runs / most
        group = SubElement(axis, "g")
        begins = f"{hour.begins.astimezone(UTC):%H:%M} UTC"
        SubElement(group, "title").text = f"{begins}: {hour.ticks:,} ticks, {hour.runs:,} runs"
        if hour.runs:
            SubElement(group, "rect", {
                "x": f"{left + 2:.2f}", "y": f"{floor - max(tall, 1):.2f}", "width": f"{right - left - 4:.2f}",
                "height": f"{max(tall, 1):.2f}", "class": "hour busy" if hour.is_busy else "hour",
            })  # fmt: skip
            look = "note end strong" if hour.is_busy else "note end"
            _text(group, right - 2, floor - tall - 4, compact(hour.runs), look)
        if hour.ticks:
            _text(group, right - 2, floor + 16, compact(hour.ticks), "note end")


def _line(picture: Element, line: Line, y: float, scale: _Scale) -> None:
    link = SubElement(picture, "a", {"href": line.link, "aria-label": line.said, "class": "entry"})
    SubElement(link, "title").text = line.said
    SubElement(link, "rect", {"x": "0", "y": f"{y}", "width": f"{WIDTH}", "height": f"{_ROW}", "class": "target"})
    state = "" if line.look == "active" else f" ({line.look})"
    _text(link, 2, y + 17, f"{shortened(line.label, _LABELS - 14 - 6.4 * len(state))}{state}", "label")
    look = line.look.replace(" ", "-")
    for span in line.spans:
        left, right = scale.at(span.begins), scale.at(span.ends)
        wide = _MARK if span.is_mark else max(right - left, _LEAST_BAND)
        left = min(left, WIDTH - wide)
        thick = 16 if span.is_mark else 12
        SubElement(link, "rect", {
            "x": f"{left:.2f}", "y": f"{y + (_ROW - thick) / 2:.1f}", "width": f"{wide:.2f}", "height": f"{thick}",
            "class": f"{'tick-mark' if span.is_mark else 'band'} {look}",
        })  # fmt: skip
        if span.note and wide > _BAND_TEXT:
            _text(link, left + 6, y + 17, span.note, "label")


def compact(number: int) -> str:
    """A number in at most four signs: 950, 12k, 3.4M."""
    for size, sign in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            value = number / size
            return f"{value:.1f}{sign}" if value < 9.95 else f"{value:.0f}{sign}"
    return str(number)


def _text(parent: Element, x: float, y: float, text: str, look: str) -> None:
    SubElement(parent, "text", {"x": f"{x:.2f}", "y": f"{y:.2f}", "class": look}).text = text
