"""When a run can have closed, as its id tells."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.runs.closing_days import ANY_DAY, closing_days
from cgk_tasks.runs.models import new_run_id

HOUR = timedelta(hours=1)


def id_of(milliseconds):
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62))


def window(run_id):
    found = closing_days(run_id)
    return datetime.fromisoformat(found["since"]), datetime.fromisoformat(found["until"])


def test_a_run_can_have_closed_since_it_was_made_by_clocks_that_differ_by_an_hour():
    since, until = window(new_run_id())
    now = datetime.now(UTC)
    assert abs(now - HOUR - since) < timedelta(minutes=5)
    assert abs(now + HOUR - until) < timedelta(minutes=5)


def test_an_old_run_can_have_closed_on_any_day_since():
    made = datetime(2026, 1, 2, 3, tzinfo=UTC)
    since, until = window(id_of(int(made.timestamp() * 1000)))
    assert since == made - HOUR
    assert until > datetime.now(UTC)


@pytest.mark.parametrize(
    "run_id", ["0d9f2a52-5d3c-4a57-9a3e-6f2f9f6b1c11", str(uuid.uuid5(uuid.NAMESPACE_DNS, "task")), "no id", ""]
)
def test_an_id_that_tells_no_time_leaves_every_day(run_id):
    assert closing_days(run_id) == ANY_DAY


@given(st.integers(0, 2**48 - 1))
def test_every_time_that_an_id_can_have_gives_values_that_postgresql_reads(milliseconds):
    found = closing_days(id_of(milliseconds))
    if found != ANY_DAY:
        assert datetime.fromisoformat(found["since"]).year >= 1969
