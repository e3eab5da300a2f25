"""Pictures for the pages: pure functions from data to SVG, which stands inside of the page.

The elements are made by ElementTree, which escapes every name and text. Looks are classes, whose colours the style
sheet gives for light and dark: the pages' content policy allows no style of an element's own, and no script. Nothing is
told by colour alone: waits are thin, what failed is hatched, and each bar has its words beside it. Each picture has a
title and a description, and stands beside a table with the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from xml.etree.ElementTree import Element, SubElement, tostring

Look = Literal["wait", "work", "failed"]

WIDTH: Final = 1000
_LABELS: Final = 230
"""The width of the column of labels, in units of the picture."""
_LETTER: Final = 6.4
"""How wide a letter is, about."""
_ROW: Final = 22
_TOP: Final = 24
_LEAST_WIDTH: Final = 2.0
_TICKS: Final = 6
_STEPS_SECONDS: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
    10800, 21600, 43200, 86400, 172800, 604800, 2592000, 7776000, 31536000, 157680000, 630720000,
    3153600000,
)  # fmt: skip

_PLOT_HEIGHT: Final = 200
_AXIS: Final = 60
_LEGEND_COLUMNS: Final = 3
COLOURS: Final = 8
"""So many series have a colour of their own in the style sheet."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in a line of a waterfall. is_on: it is not over."""

    begins: datetime
    ends: datetime
    look: Look
    is_on: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a waterfall. note: what stands beside its bar."""

    label: str
    spans: tuple[Span, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one name, one for each bar. is_rest: they are those of all other names together."""

    label: str
    values: tuple[float, ...]
    is_rest: bool = False


def waterfall(lines: Sequence[Line], begin: datetime, end: datetime, *, name: str, title: str, description: str) -> str:
    """Lines one below the other, on one axis of time in UTC from `begin` to `end`. name: of the picture in its page.

    What lies outside of the axis is cut off.
    """
    end = max(end, begin + timedelta(milliseconds=1))
    height = _TOP + _ROW * len(lines) + 4
    picture = _picture(name, title, description, height)
    scale = _Scale(begin, end, _LABELS, WIDTH)
    for moment, text in ticks(begin, end):
        x = scale.at(moment)
        _line(picture, x, _TOP - 6, x, height)
        _text(picture, x + 3, 12, text, "tick")
    for place, line in enumerate(lines):
        _waterfall_line(picture, line, _TOP + _ROW * place, scale, name)
    return _markup(picture)


def _waterfall_line(picture: Element, line: Line, y: float, scale: _Scale, name: str) -> None:
    group = SubElement(picture, "g")
    SubElement(group, "title").text = f"{line.label}: {line.note}" if line.note else line.label
    _text(group, 0, y + 15, shortened(line.label, _LABELS - 10), "label")
    boxes = [(span, min(scale.at(span.begins), WIDTH - _LEAST_WIDTH), scale.at(span.ends)) for span in line.spans]
    for span, left, right in boxes:
        thickness = 6 if span.look == "wait" else 12
        box = {
            "x": f"{left:.2f}", "y": f"{y + 11 - thickness / 2:.1f}", "height": str(thickness),
            "width": f"{max(right - left, _LEAST_WIDTH):.2f}",
        }  # fmt: skip
        SubElement(group, "rect", box, **{"class": f"span {span.look}{' on' if span.is_on else ''}"})
        if span.look == "failed":
            SubElement(group, "rect", box, fill=f"url(#{name}-hatch)")
    if boxes and line.note:
        _note(group, line.note, y, min(left for _, left, _ in boxes), max(right for _, _, right in boxes))


def _note(group: Element, note: str, y: float, left: float, right: float) -> None:
    """After the bar, or before it where there is more room."""
    after, before = WIDTH - right, left - _LABELS
    room = max(after, before) if max(after, before) > 12 * _LETTER else WIDTH - _LABELS
    text = shortened(note, room - 10)
    if len(text) * _LETTER + 6 <= after:
        _text(group, right + 6, y + 15, text, "note")
    elif len(text) * _LETTER + 6 <= before:
        _text(group, left - 6, y + 15, text, "note end")
    else:
        _text(group, WIDTH - 4, y + 15, text, "note end")


def stacked(
    series: Sequence[Series], moments: Sequence[datetime], *, name: str, title: str, description: str, unit: str
) -> str:
    """A bar for each moment, in which the values of the series stand on each other, the first one lowest; a legend."""
    rows = math.ceil(len(series) / _LEGEND_COLUMNS)
    picture = _picture(name, title, description, _TOP + _PLOT_HEIGHT + 34 + 20 * rows)
    totals = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    top, marks = _value_axis(max(totals, default=0.0))
    floor = _TOP + _PLOT_HEIGHT
    for mark in marks:
        y = floor - _PLOT_HEIGHT * mark / top
        _line(picture, _AXIS, y, WIDTH, y)
        _text(picture, _AXIS - 6, y + 4, f"{mark:,g}{unit}", "tick end")
    width = (WIDTH - _AXIS) / max(len(moments), 1)
    for place, moment in enumerate(moments):
        left = _AXIS + width * place
        if place % 10 == 0:
            _text(picture, left, floor + 16, f"{moment.astimezone(UTC):%H:%M}", "tick")
        _stack(picture, series, place, moment, _Column(left + 1, width - 2, floor, _PLOT_HEIGHT / top), name, unit)
    for place, one in enumerate(series):
        _legend(picture, one, place, floor + 34, name)
    return _markup(picture)


@dataclass(frozen=True, slots=True)
class _Column:
    left: float
    width: float
    floor: float
    per_unit: float


def _stack(
    picture: Element, series: Sequence[Series], place: int, moment: datetime, column: _Column, name: str, unit: str
) -> None:
    parts = [(nth, one, one.values[place]) for nth, one in enumerate(series) if one.values[place] > 0]
    if not parts:
        return
    group = SubElement(picture, "g")
    said = ", ".join(f"{one.label} {value:,.1f}{unit}" for _, one, value in parts)
    SubElement(group, "title").text = f"{moment.astimezone(UTC):%H:%M} UTC: {said}"
    y = column.floor
    for nth, one, value in parts:
        height = value * column.per_unit
        y -= height
        box = {
            "x": f"{column.left:.2f}", "y": f"{y:.2f}", "width": f"{column.width:.2f}", "height": f"{height:.2f}",
        }  # fmt: skip
        _filled(group, box, one, nth, name)


def _legend(picture: Element, one: Series, place: int, y: float, name: str) -> None:
    room = (WIDTH - _AXIS) / _LEGEND_COLUMNS
    left, top = _AXIS + room * (place % _LEGEND_COLUMNS), y + 20 * (place // _LEGEND_COLUMNS)
    _filled(picture, {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": "12", "height": "12"}, one, place, name)
    _text(picture, left + 18, top + 10, shortened(one.label, room - 24), "label")


def _filled(group: Element, box: dict[str, str], one: Series, nth: int, name: str) -> None:
    SubElement(group, "rect", box, **{"class": "series rest" if one.is_rest else f"series s{nth % COLOURS}"})
    if one.is_rest:
        SubElement(group, "rect", box, fill=f"url(#{name}-hatch)")


def ticks(begin: datetime, end: datetime) -> list[tuple[datetime, str]]:
    """Round times between two, with their texts: about half a dozen."""
    seconds = max((end - begin).total_seconds(), 0.001)
    step = next((one for one in _STEPS_SECONDS if seconds / one <= _TICKS), _STEPS_SECONDS[-1])
    first = math.ceil(begin.timestamp() / step)
    many = min(math.floor(end.timestamp() / step) - first + 1, 4 * _TICKS)
    moments = [datetime.fromtimestamp(round((first + nth) * step, 3), UTC) for nth in range(many)]
    return [(moment, _tick_text(moment, seconds)) for moment in moments]


def _tick_text(moment: datetime, seconds: float) -> str:
    if seconds < 10:
        return f"{moment:%H:%M:%S}.{round(moment.microsecond / 1000):03d}"
    if seconds < 3600:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%H:%M}" if seconds < 86_400 else f"{moment:%m-%d %H:%M}" if seconds < 6e6 else f"{moment:%Y-%m-%d}"


def _value_axis(largest: float) -> tuple[float, list[float]]:
    """The upper end of the axis, and its marks."""
    if largest <= 0:
        return 1.0, [0.0]
    power = 10.0 ** math.floor(math.log10(largest / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 4 >= largest)
    marks = [step * nth for nth in range(math.ceil(largest / step) + 1)]
    return marks[-1], marks


def shortened(text: str, width: float) -> str:
    """As much of a text as has room."""
    letters = max(int(width / _LETTER), 1)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


@dataclass(frozen=True, slots=True)
class _Scale:
    begin: datetime
    end: datetime
    left: float
    right: float

    def at(self, moment: datetime) -> float:
        part = (moment - self.begin) / (self.end - self.begin)
        return self.left + (self.right - self.left) * min(max(part, 0.0), 1.0)


def _picture(name: str, title: str, description: str, height: float) -> Element:
    attributes = {
        "class": "chart", "viewBox": f"0 0 {WIDTH} {height:g}", "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
    }  # fmt: skip
    picture = Element("svg", attributes)
    SubElement(picture, "title", id=f"{name}-title").text = title
    SubElement(picture, "desc", id=f"{name}-description").text = description
    hatch = SubElement(
        SubElement(picture, "defs"), "pattern", id=f"{name}-hatch", width="6", height="6",
        patternUnits="userSpaceOnUse", patternTransform="rotate(45)",
    )  # fmt: skip
    SubElement(hatch, "rect", {"class": "hatch", "width": "2", "height": "6"})
    return picture


def _line(picture: Element, x1: float, y1: float, x2: float, y2: float) -> None:
    at = {"x1": f"{x1:.2f}", "y1": f"{y1:.2f}", "x2": f"{x2:.2f}", "y2": f"{y2:.2f}"}
    SubElement(picture, "line", at, **{"class": "grid"})


def _text(parent: Element, x: float, y: float, text: str, look: str) -> None:
    SubElement(parent, "text", {"x": f"{x:.2f}", "y": f"{y:.2f}", "class": look}).text = text


def _markup(picture: Element) -> str:
    return tostring(picture, encoding="unicode")
