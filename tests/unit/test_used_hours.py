"""What was had of the workers in the last hour: from rows to a table and a picture."""

from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.dashboard.charts import COLOURS
from cgk_tasks.dashboard.data.used_hour import MINUTES, used_hour

SINCE = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def row(name, minute, seconds, names=2):
    return {"name": name, "minute": SINCE + timedelta(minutes=minute), "seconds": seconds, "names": names}


def hour(*rows):
    return used_hour(rows, SINCE, rest="{} other tenants", title="Shares")


def test_each_line_has_its_seconds_by_ten_minutes_and_its_part():
    acme, globex = hour(row("acme", 0, 30.0), row("acme", 59, 15.0), row("globex", 12, 15.0)).lines
    assert (acme.columns, acme.seconds, acme.part) == ((30.0, 0, 0, 0, 0, 15.0), 45.0, 0.75)
    assert (globex.columns[1], globex.part) == (15.0, 0.25)


def test_the_others_are_one_line_that_says_how_many_they_are():
    (line,) = hour(row("", 3, 5.0, names=COLOURS + 12)).lines
    assert (line.name, line.is_rest) == ("12 other tenants", True)


def test_minutes_outside_of_the_hour_are_left_out():
    assert hour(row("acme", -1, 5.0), row("acme", MINUTES, 5.0)).seconds == 0


def test_nothing_is_no_line_and_can_be_drawn():
    assert hour().lines == ()
    assert "nothing ran" in hour().picture


@pytest.mark.parametrize("name", ["<b>", '"&"', "</title><script>"])
def test_names_do_not_break_out_of_the_picture(name):
    assert name not in hour(row(name, 3, 5.0)).picture


def test_the_description_says_the_parts():
    assert "acme 80%, globex 20%" in hour(row("acme", 0, 8.0), row("globex", 0, 2.0)).picture
