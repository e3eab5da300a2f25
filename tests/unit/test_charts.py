"""The pictures of the dashboard: from data to SVG."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from cgk_tasks.dashboard.charts import COLOURS, WIDTH, Line, Series, Span, lined, shortened, stacked, ticks, waterfall
from cgk_tasks.dashboard.display import in_form

BEGIN = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
NASTY = """<script>alert("1")</script>&amp;'"><g onload="x">"""


def at(seconds):
    return BEGIN + timedelta(seconds=seconds)


def drawn(*lines, seconds=100.0):
    markup = waterfall(lines, BEGIN, at(seconds), name="way", title="Way", description="How it went")
    return ET.fromstring(markup)


def bars(seconds=60, **values):
    series = [Series(name, (float(value),) * 3) for name, value in values.items()]
    markup = stacked(
        series, [at(seconds * nth) for nth in range(3)], name="s", title="T", description="D", unit=" s"
    )  # fmt: skip
    return ET.fromstring(markup)


def boxes(picture, look):
    return [box for box in picture.iter("rect") if look in box.get("class", "").split()]


def test_a_picture_has_a_title_and_a_description():
    picture = drawn(Line("step", (Span(at(0), at(50), "work"),)))
    named = [picture.find(f"*[@id='{one}']").text for one in picture.get("aria-labelledby").split()]
    assert (picture.get("role"), named) == ("img", ["Way", "How it went"])


def test_bars_stand_where_their_times_are():
    picture = drawn(Line("step", (Span(at(25), at(75), "work"),)))
    (box,) = boxes(picture, "work")
    left, width = float(box.get("x")), float(box.get("width"))
    assert (left - 230) / (WIDTH - 230) == pytest.approx(0.25, abs=0.01)
    assert width / (WIDTH - 230) == pytest.approx(0.5, abs=0.01)


def test_what_lies_outside_of_the_axis_is_cut_off():
    (box,) = boxes(drawn(Line("late", (Span(at(-50), at(500), "work"),))), "work")
    assert (float(box.get("x")), float(box.get("x")) + float(box.get("width"))) == (230, WIDTH)


def test_what_took_no_time_is_seen_too():
    picture = drawn(Line("quick", (Span(at(100), at(100), "work"),)))
    (box,) = boxes(picture, "work")
    assert float(box.get("width")) > 0
    assert float(box.get("x")) + float(box.get("width")) <= WIDTH


def test_a_picture_of_no_time_at_all_can_be_drawn():
    assert boxes(drawn(Line("x", (Span(BEGIN, BEGIN, "wait"),)), seconds=0), "wait")


def test_failures_waits_and_what_goes_on_differ_without_colour():
    picture = drawn(
        Line("bad", (Span(at(0), at(10), "failed"),)), Line("slow", (Span(at(0), at(10), "wait"),)),
        Line("now", (Span(at(0), at(10), "work", is_on=True),)),
    )  # fmt: skip
    (failed,), (wait,), (goes_on,) = (boxes(picture, look) for look in ("failed", "wait", "on"))
    hatched = [box.get("y") for box in picture.iter("rect") if box.get("fill") == "url(#way-hatch)"]
    assert hatched == [failed.get("y")]
    assert float(wait.get("height")) < float(failed.get("height")) == float(goes_on.get("height"))


@pytest.mark.parametrize("where", ["label", "note"])
def test_names_of_a_waterfall_do_not_break_out(where):
    line = Line(**{"label": "x", where: NASTY}, spans=(Span(at(0), at(1), "work"),))
    picture = drawn(line)
    assert NASTY in "".join(picture.itertext())
    assert {element.tag for element in picture.iter()} <= {
        "svg", "title", "desc", "defs", "pattern", "rect", "g", "line", "text",
    }  # fmt: skip


def test_names_of_shares_do_not_break_out():
    picture = bars(**{NASTY: 5})
    assert NASTY in "".join(picture.itertext())
    assert not list(picture.iter("script"))


def test_no_element_has_a_style_or_a_script_which_the_content_policy_would_refuse():
    for picture in (drawn(Line(NASTY, (Span(at(0), at(1), "failed"),), NASTY)), bars(a=1, b=2)):
        attributes = {name for element in picture.iter() for name in element.attrib}
        assert not [name for name in attributes if name == "style" or name.startswith("on") or "href" in name]


def test_the_note_stands_before_a_bar_that_ends_at_the_edge():
    picture = drawn(Line("x", (Span(at(60), at(100), "work"),), "took long enough"))
    (note,) = [text for text in picture.iter("text") if text.text == "took long enough"]
    assert note.get("class") == "note end"
    assert float(note.get("x")) < float(boxes(picture, "work")[0].get("x"))


def test_long_labels_are_shortened_and_whole_in_the_tooltip():
    label = "a-step-whose-name-is-much-longer-than-the-column-of-labels"
    picture = drawn(Line(label, (Span(at(0), at(1), "work"),)))
    labels = [text.text for text in picture.iter("text") if text.get("class") == "label"]
    assert (len(labels), labels[0].endswith("…"), len(labels[0]) < len(label)) == (1, True, True)
    assert label in [title.text for title in picture.iter("title")]


@pytest.mark.parametrize(
    ("seconds", "first", "last"),
    [
        (0.01, "09:00:00.000", "09:00:00.010"), (7, "09:00:00.000", "09:00:06.000"), (90, "09:00:00", "09:01:30"),
        (7200, "09:00", "11:00"), (3 * 86400, "03-01 12:00", "03-04 00:00"),
    ],
)  # fmt: skip
def test_ticks_are_round_times(seconds, first, last):
    found = [in_form(moment, form) for moment, form in ticks(BEGIN, at(seconds))]
    assert (found[0], found[-1]) == (first, last)
    assert len(found) <= 8


@pytest.mark.parametrize("years", [1, 30, 500])
def test_a_run_of_many_years_has_few_ticks(years):
    assert len(ticks(BEGIN, BEGIN + timedelta(days=365 * years))) <= 8


def test_values_stand_on_each_other():
    picture = bars(low=20, high=40)
    (low, *_), (high, *_) = boxes(picture, "s0"), boxes(picture, "s1")
    assert float(high.get("y")) + float(high.get("height")) == pytest.approx(float(low.get("y")), abs=0.02)
    assert float(high.get("height")) == pytest.approx(2 * float(low.get("height")), abs=0.02)


def test_each_bar_says_its_values():
    titles = [title.text for title in bars(acme=20, globex=40).iter("title")]
    assert titles[1:] == [f"{minute} UTC: acme 20.0 s, globex 40.0 s" for minute in ("09:00", "09:01", "09:02")]


def test_the_rest_is_hatched_and_more_series_than_colours_can_be_drawn():
    series = [Series(f"t{nth}", (1.0,)) for nth in range(COLOURS + 2)] + [Series("others", (1.0,), is_rest=True)]
    picture = ET.fromstring(
        stacked(series, [BEGIN], name="s", title="T", description="D", unit=" s")
    )  # fmt: skip
    assert len(boxes(picture, "series")) == 2 * len(series)
    assert len([box for box in picture.iter("rect") if box.get("fill") == "url(#s-hatch)"]) == 2


def test_nothing_at_all_can_be_drawn():
    assert boxes(bars(acme=0), "series") != []
    picture = ET.fromstring(stacked([], [BEGIN], name="s", title="T", description="D", unit=" s"))
    assert boxes(picture, "series") == []


def test_texts_that_fit_are_left_as_they_are():
    assert shortened("acme", 200) == "acme"


def test_lines_differ_in_their_dashes_and_go_through_their_values():
    series = [Series("slow", (0.0, 10.0, 5.0)), Series("fast", (1.0, 1.0, 1.0))]
    moments = [BEGIN + timedelta(minutes=nth) for nth in range(3)]
    picture = ET.fromstring(lined(series, moments, name="s", title="T", description="D", unit=" s"))
    lines = list(picture.iter("polyline"))
    heights = [[float(point.split(",")[1]) for point in line.get("points").split()] for line in lines]
    assert [line.get("class") for line in lines] == ["line s0 d0", "line s1 d1"]
    assert heights[0][1] < heights[1][1] < heights[0][0]
    assert len(set(heights[1])) == 1


def test_a_state_has_its_own_look_and_what_failed_is_hatched():
    series = [Series("completed", (3.0,), look="completed"), Series("failed", (1.0,), look="failed")]
    picture = ET.fromstring(stacked(series, [BEGIN], name="s", title="T", description="D"))
    looks = [box.get("class") for box in picture.iter("rect") if (box.get("class") or "").startswith("series")]
    hatched = [box for box in picture.iter("rect") if box.get("fill") == "url(#s-hatch)"]
    assert set(looks) == {"series completed", "series failed"}
    assert len(hatched) == 2  # in the bar and in the legend
    assert "completed 3, failed 1" in ET.tostring(picture, encoding="unicode")


def test_bars_of_days_are_told_with_their_day():
    moments = [BEGIN + timedelta(hours=3 * nth) for nth in range(56)]
    markup = stacked([Series("t", (1.0,) * 56)], moments, name="s", title="T", description="D", bar=timedelta(hours=3))
    ticks_shown = [text.text for text in ET.fromstring(markup).iter("text") if text.get("class") == "tick"]
    assert 5 <= len(ticks_shown) <= 7
    assert all(len(text) == len("03-01 09:00") for text in ticks_shown)
