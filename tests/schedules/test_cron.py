"""When schedules tick: the rules of daylight saving, a library, and a brute-force clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.schedules.cron import Cron, Every, timing
from tests.schedules import brute_force
from tests.schedules.brute_force import utc

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
ZONES = [BERLIN, NEW_YORK, LORD_HOWE]
TWO_YEARS = (utc(2026, 1, 1), utc(2028, 1, 1))


def local_ticks(cron, zone, day):
    """The ticks of a local day, as local times with their offsets."""
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    end = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)) + timedelta(days=1)
    found = timing(cron, zone).ticks(
        begin.astimezone(UTC) - timedelta(microseconds=1), end.astimezone(UTC) - timedelta(microseconds=1)
    )
    return [f"{tick.astimezone(ZoneInfo(zone)):%H:%M%z}" for tick in found]


@pytest.mark.parametrize(("zone", "day", "cron", "shift"), [
    (BERLIN, "2026-03-29", "30 2 * * *", "03:00+0200"),
    (NEW_YORK, "2026-03-08", "30 2 * * *", "03:00-0400"),
    (LORD_HOWE, "2026-10-04", "15 2 * * *", "02:30+1100"),
])  # fmt: skip
def test_a_local_time_that_does_not_exist_runs_at_the_shift(zone, day, cron, shift):
    assert local_ticks(cron, zone, day) == [shift]


@pytest.mark.parametrize(("zone", "day", "cron", "first"), [
    (BERLIN, "2026-10-25", "30 2 * * *", "02:30+0200"),
    (NEW_YORK, "2026-11-01", "30 1 * * *", "01:30-0400"),
    (LORD_HOWE, "2026-04-05", "45 1 * * *", "01:45+1100"),
])  # fmt: skip
def test_a_local_time_that_comes_twice_runs_once_the_first_time(zone, day, cron, first):
    assert local_ticks(cron, zone, day) == [first]


@pytest.mark.parametrize(("zone", "spring", "autumn", "missing"), [
    (BERLIN, "2026-03-29", "2026-10-25", 4), (NEW_YORK, "2026-03-08", "2026-11-01", 4),
    (LORD_HOWE, "2026-10-04", "2026-04-05", 2),
])  # fmt: skip
def test_an_interval_runs_in_real_time(zone, spring, autumn, missing):
    for day, ticks in ((spring, 96 - missing), (autumn, 96 + missing)):
        begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        found = list(timing("*/15 * * * *", zone).ticks(begin, begin + timedelta(minutes=15 * ticks)))
        assert len(found) == ticks
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=15)}


@pytest.mark.parametrize("hours", ["*", "*/1", "0-23", "0-11,12-23"])
def test_every_hour_is_in_real_time_however_it_is_written(hours):
    begin = datetime(2026, 10, 25, tzinfo=ZoneInfo(BERLIN)).astimezone(UTC)
    found = list(timing(f"0 {hours} * * *", BERLIN).ticks(begin, begin + timedelta(hours=24)))
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}


def test_ticks_that_a_shift_moves_to_one_moment_are_one():
    assert local_ticks("*/15 2,3 * * *", BERLIN, "2026-03-29") == [
        "03:00+0200",
        "03:15+0200",
        "03:30+0200",
        "03:45+0200",
    ]


def test_every_other_hour_ticks_at_the_shift_and_not_twice_in_the_repeated_hour():
    assert local_ticks("0 */2 * * *", BERLIN, "2026-03-29")[:3] == ["00:00+0100", "03:00+0200", "04:00+0200"]
    assert local_ticks("0 */2 * * *", BERLIN, "2026-10-25")[:3] == ["00:00+0200", "02:00+0200", "04:00+0100"]


@pytest.mark.parametrize(("zone", "day"), [("America/Havana", "2026-03-08"), ("Africa/Cairo", "2026-04-24")])
def test_a_midnight_that_does_not_exist_runs_at_the_shift(zone, day):
    first = local_ticks("0 0 * * *", zone, day)
    assert [tick[:5] for tick in first] == ["01:00"]


def test_29_february_comes_every_four_years():
    assert timing("0 0 29 2 *").next(utc(2097, 1, 1)) == utc(2104, 2, 29)


def test_the_previous_tick_is_the_last_that_is_not_later():
    nine = timing("0 9 * * 1-5", NEW_YORK)
    assert nine.previous(utc(2026, 3, 9, 13)) == utc(2026, 3, 9, 13)
    assert nine.previous(utc(2026, 3, 9, 12, 59)) == utc(2026, 3, 6, 14)


@pytest.mark.parametrize(
    ("text", "seconds"), [("every 30s", 30), ("every 5m", 300), ("every 2 h", 7200), ("every 0.5s", 0.5)]
)
def test_an_interval_counts_from_1970_so_that_a_restart_does_not_move_it(text, seconds):
    every = timing(text)
    assert isinstance(every, Every)
    after = utc(2026, 3, 2, 9, 0, 1)
    assert (every.next(after).timestamp() % seconds, every.previous(after) <= after < every.next(after)) == (0, True)


@pytest.mark.parametrize(("cron", "zone"), [
    ("0 9 * *", "UTC"), ("0 25 * * *", "UTC"), ("0 0 30 2 *", "UTC"), ("nonsense", "UTC"),
    ("0 9 * * *", "Mars/Olympus"),
    ("0 9 * * *", ""), ("every 0s", "UTC"),
])  # fmt: skip
def test_what_can_never_tick_is_refused(cron, zone):
    with pytest.raises(InvalidOptionError):
        timing(cron, zone)


# Properties

MINUTES = st.sampled_from(["0", "15", "30", "7,37", "*/5", "*/15", "*", "10-20", "45"])
HOURS = st.sampled_from(["*", "1", "2", "3", "1,2,3", "0", "*/2", "*/6", "9,17", "0-4"])
DAYS = st.sampled_from(["* * *", "* * 0", "* * 1-5", "1 * *", "* 3,4,10,11 *", "1,15 * 0", "*/3 * *", "* * 7"])
EXPRESSIONS = st.builds("{} {} {}".format, MINUTES, HOURS, DAYS)
SHIFTS = {
    BERLIN: ["2026-03-29", "2026-10-25", "2027-03-28", "2027-10-31"],
    NEW_YORK: ["2026-03-08", "2026-11-01", "2027-03-14", "2027-11-07"],
    LORD_HOWE: ["2026-04-05", "2026-10-04", "2027-04-04", "2027-10-03"],
}
WINDOWS = st.one_of(
    *(
        st.tuples(st.just(zone), st.sampled_from([datetime.fromisoformat(day).replace(tzinfo=UTC) for day in days]))
        for zone, days in SHIFTS.items()
    ),
    st.tuples(
        st.sampled_from(ZONES),
        st.datetimes(datetime(2026, 1, 3), datetime(2027, 12, 28), timezones=st.just(UTC)),  # noqa: DTZ001
    ),
)


def window(around):
    middle = around.replace(minute=0, second=0, microsecond=0)
    return middle - timedelta(days=2), middle + timedelta(days=2)


def found(cron, zone, begin, end):
    just_before = timedelta(microseconds=1)
    return list(Cron(cron, zone).ticks(begin - just_before, end - just_before))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, WINDOWS)
def test_every_tick_is_one_of_the_brute_force_clock(cron, place):
    zone, around = place
    begin, end = window(around)
    assert found(cron, zone, begin, end) == brute_force.ticks(cron, zone, begin, end)


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, WINDOWS)
def test_next_and_previous_agree_with_the_list_of_ticks(cron, place):
    zone, around = place
    ticks = found(cron, zone, *window(around))
    times = Cron(cron, zone)
    for earlier, later in pairwise(ticks[:21]):
        assert times.next(earlier) == later
        assert times.previous(later - timedelta(seconds=1)) == earlier


NAMED = st.builds(
    "{} {} {}".format,
    st.sampled_from(["0", "15", "30", "7,37"]),
    st.sampled_from(["1", "2", "3", "1,2,3", "0", "9,17"]),
    DAYS,
)
EACH_HOUR = st.builds("{} {} {}".format, MINUTES, st.just("*"), DAYS)


@settings(max_examples=100, deadline=None)
@given(NAMED | EACH_HOUR, WINDOWS)
def test_cronsim_finds_the_same_ticks_where_its_rules_are_ours(cron, place):
    """Debian's rules, which cronsim follows, differ for `*/2` hours and for `*` minutes of named hours; and cronsim
    steps over what a shift of half an hour repeats.
    """
    zone, around = place
    assume(zone != LORD_HOWE or cron.split()[1] != "*")
    begin, end = window(around)
    iterator = CronSim(cron, (begin - timedelta(minutes=1)).astimezone(ZoneInfo(zone)))
    theirs = set()
    while (tick := next(iterator).astimezone(UTC)) < end:
        if tick >= begin:
            theirs.add(tick)
    assert set(found(cron, zone, begin, end)) == theirs


@pytest.mark.slow
def test_two_years_without_a_tick_missing_or_double():
    crons = ["30 2 * * *", "0 */2 * * *", "15 * * * *", "*/5 * * * *"]
    expected = brute_force.ticks_of_all(crons, LORD_HOWE, *TWO_YEARS)
    assert {cron: found(cron, LORD_HOWE, *TWO_YEARS) for cron in crons} == expected


@pytest.mark.parametrize("interval", ["every 99999999999999d", "every 36526d", "every 0s", "every 0.0000001s"])
def test_an_interval_that_no_clock_can_keep_is_refused(interval):
    with pytest.raises(InvalidOptionError, match="cron"):
        timing(interval)
