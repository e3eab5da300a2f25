"""What was had of the workers in the last hour: from rows to a table and a picture."""

from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.dashboard.charts import Series
from cgk_tasks.dashboard.data.used_hour import MINUTES, used_hour

SINCE = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def hour(**seconds):
    """seconds: of each name, by minute."""
    series = [Series(name, tuple(its.get(nth, 0.0) for nth in range(MINUTES))) for name, its in seconds.items()]
    return used_hour(series, SINCE, title="Shares")


def test_each_line_has_its_seconds_by_ten_minutes_and_its_part():
    acme, globex = hour(acme={0: 30.0, 59: 15.0}, globex={12: 15.0}).lines
    assert (acme.columns, acme.seconds, acme.part) == ((30.0, 0, 0, 0, 0, 15.0), 45.0, 0.75)
    assert (globex.columns[1], globex.part) == (15.0, 0.25)


def test_the_columns_say_when_they_begin():
    assert [begin - SINCE for begin in hour().begins] == [timedelta(minutes=nth) for nth in range(0, 60, 10)]


def test_nothing_is_no_line_and_can_be_drawn():
    assert hour().lines == ()
    assert "nothing ran" in hour().picture


@pytest.mark.parametrize("name", ["<b>", '"&"', "</title><script>"])
def test_names_do_not_break_out_of_the_picture(name):
    assert name not in hour(**{name: {3: 5.0}}).picture


def test_the_description_says_the_parts():
    assert "acme 80%, globex 20%" in hour(acme={0: 8.0}, globex={0: 2.0}).picture
