"""A run is found by its id, whatever its id says of the day on which it was made."""

import pytest

from cgk_tasks import cancel_job, get_run, send_job
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.runs import store
from cgk_tasks.runs.ended import just_ended
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit
from tests.support.jobs import Behave


@pytest.fixture
def closed(database):
    run_id = send_job(Behave(tenant_id="acme", action="echo"), delay=3600).id
    cancel_job(run_id)
    return run_id


def moved(run_id, by):
    with autocommit() as connection:
        connection.execute(
            "UPDATE cgk.run_history SET closed_at = closed_at + %s::interval WHERE id = %s", [by, run_id]
        )


@pytest.mark.parametrize("by", ["0", "-2 days", "2 days"])
def test_a_run_that_closed_on_another_day_than_its_id_lets_expect_is_found(closed, by):
    moved(closed, by)
    assert get_run(closed).state == "cancelled"
    assert store.find(closed)["state"] == "cancelled"


def test_a_run_that_does_not_exist_is_unknown(database):
    with pytest.raises(UnknownRunError):
        get_run(new_run_id())


@pytest.mark.parametrize(("by", "is_found"), [("0", True), ("-1 hour", False)])
def test_what_has_just_ended_is_told_with_little_of_its_record(closed, by, is_found):
    moved(closed, by)
    found = just_ended([closed, new_run_id()])
    assert {run_id: end.state for run_id, end in found.items()} == ({closed: "cancelled"} if is_found else {})
