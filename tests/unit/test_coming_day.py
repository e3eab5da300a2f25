"""The coming day: every tick is in one mark or band, and in one hour; and the picture of it."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.dashboard.data.coming_day import Day, DayEntry, _hours
from cgk_tasks.dashboard.day_chart import compact
from cgk_tasks.schedules.coming import CLOSE, HOUR, HOURS, coming, stretches
from cgk_tasks.schedules.cron import Every, timing

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
CRONS = (
    "* * * * *", "*/5 * * * *", "*/10 * * * *", "*/15 * * * *", "*/17 1-3 * * *", "0 * * * *", "30 2 * * *",
    "15 1,2,3 * * 0", "0 */2 * * *", "59 23 * * *", "0 0 1 * *", "every 30s", "every 599s", "every 10m", "every 7h",
)  # fmt: skip
SHIFTS = (
    datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC),
)  # fmt: skip
MOMENTS = st.builds(
    lambda shift, seconds: shift + timedelta(seconds=seconds), st.sampled_from(SHIFTS), st.integers(-90_000, 90_000)
)


def the_day(cron, zone, now):
    begin = now.replace(minute=0, second=0, microsecond=0)
    every_tick = list(timing(cron, zone).ticks(now, begin + HOURS * HOUR - timedelta(microseconds=1)))
    return begin, every_tick, coming(timing(cron, zone), now, begin)


@given(st.sampled_from(CRONS), st.sampled_from(ZONES), MOMENTS)
def test_every_tick_of_the_day_is_in_one_stretch_and_none_in_two(cron, zone, now):
    _begin, ticks, found = the_day(cron, zone, now)
    inside = [sum(one.first <= tick <= one.last for one in found.stretches) for tick in ticks]
    assert set(inside) <= {1}
    assert sum(one.ticks for one in found.stretches) == found.ticks == len(ticks)


@given(st.sampled_from(CRONS), st.sampled_from(ZONES), MOMENTS)
def test_every_tick_counts_in_its_hour(cron, zone, now):
    begin, ticks, found = the_day(cron, zone, now)
    expected = [sum(begin + HOUR * nth <= tick < begin + HOUR * (nth + 1) for tick in ticks) for nth in range(HOURS)]
    assert list(found.by_hour) == expected


@given(st.lists(st.integers(0, 86_400), unique=True).map(sorted))
def test_stretches_are_apart_and_have_no_gaps(seconds):
    ticks = [datetime(2026, 11, 30, tzinfo=UTC) + timedelta(seconds=one) for one in seconds]
    found = stretches(ticks)
    assert all(later.first - one.last > CLOSE for one, later in pairwise(found))
    assert all((one.first == one.last) == (one.ticks == 1) for one in found)
    for one in found:
        inside = [tick for tick in ticks if one.first <= tick <= one.last]
        assert all(later - tick <= CLOSE for tick, later in pairwise(inside))


@given(st.floats(0.001, 90_000), MOMENTS, st.integers(0, 200_000))
def test_an_interval_knows_how_many_ticks_there_are(period, after, seconds):
    every = Every(period)
    until = after + min(timedelta(seconds=seconds), 500 * every.period)
    assert every.count(after, until) == len(list(every.ticks(after, until)))


def test_a_tick_of_each_minute_is_one_band():
    _begin, ticks, found = the_day("* * * * *", "UTC", datetime(2026, 11, 30, 7, tzinfo=UTC))
    assert [(one.first, one.ticks) for one in found.stretches] == [(ticks[0], 1439)]


def test_what_ticks_a_thousand_times_a_second_is_counted_at_once():
    *_, found = the_day_of_milliseconds()
    assert found.ticks == 86_399_999
    assert len(found.stretches) == 1


def the_day_of_milliseconds():
    now = datetime(2026, 11, 30, 7, tzinfo=UTC)
    return now, coming(timing("every 0.001s"), now, now)


@pytest.mark.parametrize(("day", "ticks"), [("2026-03-28T23:00", 96), ("2026-10-24T22:00", 96)])
def test_the_day_has_24_hours_on_days_when_the_clocks_change_too(day, ticks):
    now = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(microseconds=1)
    begin = now + timedelta(microseconds=1)
    assert coming(timing("*/15 * * * *", "Europe/Berlin"), now, begin).ticks == ticks


NOW = datetime(2026, 11, 30, 7, 12, tzinfo=UTC)


def entry(name, cron, state="active", reached=1):
    found = coming(timing(cron), NOW, NOW.replace(minute=0))
    return DayEntry(name, state, found, reached, "")


def the_picture(*entries):
    begin = NOW.replace(minute=0)
    day = Day(NOW, begin, entries, tuple(_hours(entries, begin)))
    return day, fromstring(day.picture(lambda name: f"/schedules/{name}"))


def classes(picture, name):
    return [one for one in picture.iter("rect") if name in one.get("class", "").split()]


def test_each_line_leads_to_its_entry_and_says_what_comes():
    _day, picture = the_picture(entry("ab.x", "0 */6 * * *", reached=12), entry("<b>", "* * * * *"))
    links = list(picture.iter("a"))
    assert [link.get("href") for link in links] == ["/schedules/ab.x", "/schedules/<b>"]
    assert links[0].get("aria-label").startswith("ab.x: 4 ticks, for 12 tenants each.")


def test_ticks_are_marks_and_many_a_band():
    _day, picture = the_picture(entry("few", "0 */6 * * *"), entry("many", "* * * * *"))
    assert (len(classes(picture, "tick-mark")), len(classes(picture, "band"))) == (4, 1)


def test_all_that_is_drawn_is_inside_of_the_picture():
    _day, picture = the_picture(entry("late", "59 6 * * *"), entry("many", "* * * * *"))
    width, height = (float(number) for number in picture.get("viewBox").split()[2:])
    for box in picture.iter("rect"):
        assert float(box.get("x")) >= 0
        assert float(box.get("x")) + float(box.get("width")) <= width + 0.01
        assert float(box.get("y")) + float(box.get("height")) <= height


def test_what_does_not_tick_looks_otherwise_says_so_and_makes_no_runs():
    day, picture = the_picture(
        entry("on", "0 9 * * *", reached=5),
        entry("off", "0 9 * * *", "paused", 5),
        entry("none", "0 9 * * *", "no job", 5),
    )
    assert [one.get("class") for one in classes(picture, "tick-mark")] == [
        "tick-mark active", "tick-mark paused", "tick-mark no-job",
    ]  # fmt: skip
    texts = [text.text for text in picture.iter("text")]
    assert {"off (paused)", "none (no job)"} <= set(texts)
    assert (day.ticks, day.runs) == (1, 5)


def test_busy_hours_are_those_with_the_most_runs():
    day, _picture = the_picture(entry("small", "* * * * *"), entry("large", "0 2 * * *", reached=10_000))
    assert [(hour.begins.hour, hour.ticks, hour.runs) for hour in day.hours if hour.is_busy] == [(2, 61, 10_060)]


def test_a_day_that_is_the_same_all_the_time_has_no_busy_hours():
    now = datetime(2026, 11, 30, 6, 59, 59, 999_999, tzinfo=UTC)
    begin = now + timedelta(microseconds=1)
    alike = DayEntry("alike", "active", coming(timing("*/10 * * * *"), now, begin), 1, "")
    assert [hour.is_busy for hour in _hours([alike], begin)] == [False] * HOURS


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1_000, "1.0k"), (12_345, "12k"), (9_960, "10k"), (3_400_000, "3.4M")]
)
def test_numbers_are_short(number, text):
    assert compact(number) == text
