"""Since when so many runs were sent, by counts of minutes and hours."""

from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.dashboard.data.last_runs import since_of

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
NOON = NOW.replace(second=0)
ROWS = [
    {"begin": NOON, "seconds": 60, "accepted": 100},  # half of it is over
    {"begin": NOON - timedelta(minutes=1), "seconds": 60, "accepted": 60},
    {"begin": NOON - timedelta(hours=3), "seconds": 3600, "accepted": 3600},
]


@pytest.mark.parametrize(
    ("runs", "since"),
    [
        (25, NOON + timedelta(seconds=15)),
        (50, NOON),
        (80, NOON - timedelta(seconds=30)),
        (110, NOON - timedelta(minutes=1)),
        (710, NOON - timedelta(hours=2, minutes=10)),
        (3710, NOON - timedelta(hours=3)),
        (3711, None),
    ],
)
def test_runs_are_taken_to_be_spread_evenly_within_a_time(runs, since):
    assert since_of(ROWS, runs, NOW) == since


def test_nothing_is_since_never():
    assert since_of([], 1, NOW) is None


def test_a_time_after_the_one_that_is_asked_for_is_left_out():
    rows = [{"begin": NOON, "seconds": 3600, "accepted": 3600}]
    assert since_of(rows, 10, NOW) == NOON + timedelta(seconds=20)
