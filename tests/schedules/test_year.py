"""A year of the whole table, in three zones, with a beat that wakes up and restarts when it likes."""

import random
from datetime import timedelta

import pytest

from cgk_tasks import SCHEDULES
from cgk_tasks.schedules.cron import timing
from cgk_tasks.schedules.ticks import due
from tests.schedules.brute_force import ticks_of_all, utc

BEGIN, END = utc(2026, 1, 1), utc(2027, 1, 1)
CENTURY = 100 * 365.25 * 86_400


def simulated_ticks(cron, zone, seed):
    """What a beat makes that looks after pauses of a second to a day; all it knows is up to when it is done."""
    chance = random.Random(seed)
    times = timing(cron, zone)
    done_until = now = BEGIN - timedelta(seconds=1)
    made = []
    while now < END:
        now += timedelta(seconds=chance.choice([1, 59, 61, 3_600, 20_000, 86_400]) * chance.random() + 1)
        ticks = due(times, done_until, now, "all", CENTURY).ticks
        made += ticks
        done_until = ticks[-1] if ticks else done_until
    return [tick for tick in made if tick < END]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_in_a_year_no_tick_of_the_table_is_missing_and_none_comes_twice(zone):
    crons = sorted({schedule.cron for schedule in SCHEDULES.values()})
    expected = ticks_of_all(crons, zone, BEGIN, END)
    for seed, cron in enumerate(crons):
        assert simulated_ticks(cron, zone, seed) == expected[cron], cron
