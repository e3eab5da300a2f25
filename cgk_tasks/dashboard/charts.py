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

from cgk_tasks.dashboard.display import exact, in_form

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
DASHES: Final = 4
"""So many kinds of lines it has."""
_LEGEND_ROOM: Final = (WIDTH - _AXIS) / _LEGEND_COLUMNS


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
    """The values of one name, one for each bar. is_rest: they are those of all other names together. look: the state
    of runs whose colour it has; else it has one by its place.
    """

    label: str
    values: tuple[float, ...]
    is_rest: bool = False
    look: str = ""


def waterfall(lines: Sequence[Line], begin: datetime, end: datetime, *, name: str, title: str, description: str) -> str:
    """Lines one below the other, on one axis of time in UTC from `begin` to `end`. name: of the picture in its page.

    What lies outside of the axis is cut off.
    """
    end = max(end, begin + timedelta(milliseconds=1))
    height = _TOP + _ROW * len(lines) + 4
    picture = _picture(name, title, description, height)
    scale = _Scale(begin, end, _LABELS, WIDTH)
    for moment, form in ticks(begin, end):
        x = scale.at(moment)
        _line(picture, x, _TOP - 6, x, height)
        _tick(picture, x + 3, 12, moment, form)
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
    series: Sequence[Series], moments: Sequence[datetime], *, name: str, title: str, description: str, unit: str = "",
    bar: timedelta = timedelta(minutes=1),
) -> str:  # fmt: skip
    """A bar for each moment, in which the values of the series stand on each other, the first one lowest; a legend.

    bar: the time that each stands for.
    """
    picture = _picture(name, title, description, _height_with_legend(series))
    totals = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    plot = _plot(picture, max(totals, default=0.0), moments, bar, unit)
    for place in range(len(moments)):
        _stack(picture, series, place, plot, name)
    for nth, one in enumerate(series):
        _legend(picture, one, nth, name)
    return _markup(picture)


def lined(
    series: Sequence[Series], moments: Sequence[datetime], *, name: str, title: str, description: str, unit: str = "",
    bar: timedelta = timedelta(minutes=1),
) -> str:  # fmt: skip
    """A line through the values of each series, of which each line has dashes of its own; a legend."""
    picture = _picture(name, title, description, _height_with_legend(series))
    plot = _plot(picture, max((max(one.values, default=0.0) for one in series), default=0.0), moments, bar, unit)
    for nth, one in enumerate(series):
        points = " ".join(
            f"{plot.left_of(place) + plot.width / 2:.2f},{plot.floor - value * plot.per_unit:.2f}"
            for place, value in enumerate(one.values)
        )
        group = SubElement(picture, "g")
        SubElement(group, "title").text = f"{one.label}: at most {_amount(max(one.values, default=0.0), unit)}"
        look = {"class": f"line {_look(one, nth)} d{nth % DASHES}"}
        SubElement(group, "polyline", {"points": points, **look})
        left, top = _legend_place(nth)
        at = {"x1": f"{left:.1f}", "y1": f"{top + 6:.1f}", "x2": f"{left + 14:.1f}", "y2": f"{top + 6:.1f}"}
        SubElement(group, "line", {**at, **look})
        _text(group, left + 18, top + 10, shortened(one.label, _LEGEND_ROOM - 24), "label")
    return _markup(picture)


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where values are drawn. width: of a bar, in units of the picture."""

    moments: Sequence[datetime]
    bar: timedelta
    unit: str
    per_unit: float
    width: float
    floor: float = _TOP + _PLOT_HEIGHT

    def left_of(self, place: int) -> float:
        return _AXIS + self.width * place


def _plot(picture: Element, largest: float, moments: Sequence[datetime], bar: timedelta, unit: str) -> _Plot:
    """Draws the axes."""
    top, marks = _value_axis(largest)
    plot = _Plot(moments, bar, unit, _PLOT_HEIGHT / top, (WIDTH - _AXIS) / max(len(moments), 1))
    for mark in marks:
        y = plot.floor - mark * plot.per_unit
        _line(picture, _AXIS, y, WIDTH, y)
        _text(picture, _AXIS - 6, y + 4, f"{mark:,g}{unit}", "tick end")
    every = max(len(moments) // _TICKS, 1)
    for place, moment in enumerate(moments):
        if place % every == 0:
            form = _tick_form((bar * len(moments)).total_seconds())
            _tick(picture, plot.left_of(place), plot.floor + 16, moment.astimezone(UTC), form)
    return plot


def _stack(picture: Element, series: Sequence[Series], place: int, plot: _Plot, name: str) -> None:
    parts = [(nth, one, one.values[place]) for nth, one in enumerate(series) if one.values[place] > 0]
    if not parts:
        return
    group = SubElement(picture, "g")
    moment = plot.moments[place].astimezone(UTC)
    begin = f"{moment:%H:%M}" if plot.bar * len(plot.moments) < timedelta(days=1) else f"{moment:%m-%d %H:%M}"
    said = ", ".join(f"{one.label} {_amount(value, plot.unit)}" for _, one, value in parts)
    SubElement(group, "title").text = f"{begin} UTC: {said}"
    y = plot.floor
    for nth, one, value in parts:
        height = value * plot.per_unit
        y -= height
        box = {
            "x": f"{plot.left_of(place) + 1:.2f}", "y": f"{y:.2f}", "width": f"{plot.width - 2:.2f}",
            "height": f"{height:.2f}",
        }  # fmt: skip
        _filled(group, box, one, nth, name)


def _amount(value: float, unit: str) -> str:
    return f"{value:,.1f}{unit}" if unit else f"{value:,.0f}"


def _height_with_legend(series: Sequence[Series]) -> float:
    return _TOP + _PLOT_HEIGHT + 34 + 20 * math.ceil(len(series) / _LEGEND_COLUMNS)


def _legend(picture: Element, one: Series, nth: int, name: str) -> None:
    left, top = _legend_place(nth)
    _filled(picture, {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": "12", "height": "12"}, one, nth, name)
    _text(picture, left + 18, top + 10, shortened(one.label, _LEGEND_ROOM - 24), "label")


def _legend_place(nth: int) -> tuple[float, float]:
    return (
        _AXIS + _LEGEND_ROOM * (nth % _LEGEND_COLUMNS),
        _TOP + _PLOT_HEIGHT + 34 + 20.0 * (nth // _LEGEND_COLUMNS),
    )


def _look(one: Series, nth: int) -> str:
    return "rest" if one.is_rest else one.look or f"s{nth % COLOURS}"


def _filled(group: Element, box: dict[str, str], one: Series, nth: int, name: str) -> None:
    SubElement(group, "rect", box, **{"class": f"series {_look(one, nth)}"})
    if one.is_rest or one.look == "failed":
        SubElement(group, "rect", box, fill=f"url(#{name}-hatch)")


def ticks(begin: datetime, end: datetime) -> list[tuple[datetime, str]]:
    """Round times between two, with the form in which they are written: about half a dozen."""
    seconds = max((end - begin).total_seconds(), 0.001)
    step = next((one for one in _STEPS_SECONDS if seconds / one <= _TICKS), _STEPS_SECONDS[-1])
    first = math.ceil(begin.timestamp() / step)
    many = min(math.floor(end.timestamp() / step) - first + 1, 4 * _TICKS)
    moments = [datetime.fromtimestamp(round((first + nth) * step, 3), UTC) for nth in range(many)]
    return [(moment, _tick_form(seconds)) for moment in moments]


def _tick_form(seconds: float) -> str:
    """How the times of an axis are written that is so long."""
    if seconds < 3600:
        return "h:m:s.f" if seconds < 10 else "h:m:s"
    return "h:m" if seconds < 86_400 else "M-D h:m" if seconds < 6e6 else "Y-M-D"


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


def _tick(picture: Element, x: float, y: float, moment: datetime, form: str) -> None:
    """A time of the axis, of which dashboard.js makes one of the reader's zone."""
    at = {"x": f"{x:.2f}", "y": f"{y:.2f}", "class": "tick", "data-time": exact(moment), "data-form": form}
    SubElement(picture, "text", at).text = in_form(moment, form)


def _text(parent: Element, x: float, y: float, text: str, look: str) -> None:
    SubElement(parent, "text", {"x": f"{x:.2f}", "y": f"{y:.2f}", "class": look}).text = text


def _markup(picture: Element) -> str:
    return tostring(picture, encoding="unicode")
