"""Runs that nobody works on any more: executed again, and closed once that has happened too often."""

import json
import uuid

import pytest

from cgk_tasks import cancel_job, get_job_status, send_job
from cgk_tasks.runs import ends, store
from cgk_tasks.runs.ends import PutBack
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker import recovery
from tests.support.content import change
from tests.support.jobs import Behave

ME = str(uuid.uuid4())


@pytest.fixture
def run_id(database):
    made = send_job(Behave(tenant_id="acme", action="echo"), queue="q-nobody").id
    yield made
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = %s", [made])


def claim(run_id):
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'pending', run_at = now() WHERE id = %s", [run_id])
    (claimed,) = store.claim([run_id], ME, 1)
    return claimed


def lose(run_id, loss, times=1):
    for _ in range(times):
        claim(run_id)
        assert recovery.reclaim(ME, [run_id], reason=f"a {loss}", loss=loss) == 1
    return get_job_status(run_id)


def test_a_lost_end_is_recorded_under_its_own_code(run_id):
    status = lose(run_id, "lost end")
    assert (status.state, status.error["code"], status.error["message"]) == (
        "pending",
        "OUTCOME_NOT_RECORDED",
        "a lost end",
    )


def test_a_lost_end_costs_neither_an_attempt_nor_a_death(run_id):
    status = lose(run_id, "lost end", 2)
    assert (status.state, status.attempt, status.deaths) == ("pending", 0, 0)


def test_a_run_whose_end_is_lost_three_times_in_a_row_is_failed(run_id):
    status = lose(run_id, "lost end", 3)
    assert (status.state, status.error_code, len(status.errors)) == ("failed", "OUTCOME_NOT_RECORDED", 3)


def test_lost_ends_are_counted_in_a_record_that_leaves_errors_out(run_id):
    errors = json.dumps([{"attempt": n, "code": "TIMEOUT", "at": "2026-01-01T00:00:00+00:00"} for n in range(1, 22)])
    with autocommit() as connection:
        change(connection, run_id, errors=errors, errors_left_out=50)
    assert [lose(run_id, "lost end").state for _ in range(3)] == ["pending", "pending", "failed"]


def test_an_attempt_whose_end_is_recorded_begins_the_count_anew(run_id):
    lose(run_id, "lost end", 2)
    claimed = claim(run_id)
    error = json.dumps({"attempt": 1, "code": "TIMEOUT", "at": "2026-01-01T00:00:00+00:00"})
    with autocommit() as connection:
        back = PutBack(run_id, "acme", claimed.attempt, "retrying", error=error, error_code="TIMEOUT")
        assert ends.put_back(connection, ME, [back])
    assert lose(run_id, "lost end", 2).state == "pending"


def test_a_run_that_is_cancelled_meanwhile_is_cancelled(run_id):
    lose(run_id, "lost end", 2)
    claim(run_id)
    cancel_job(run_id)
    recovery.reclaim(ME, [run_id], reason="nobody works on it", loss="lost end")
    assert get_job_status(run_id).state == "cancelled"


def test_a_stop_in_order_is_no_error_however_often_it_comes(run_id):
    status = lose(run_id, "stop", 5)
    assert (status.state, status.errors, status.attempt, status.deaths) == ("pending", [], 0, 0)


def test_a_death_is_recorded_as_one_and_uses_the_attempt(run_id):
    status = lose(run_id, "death")
    assert (status.error["code"], status.attempt, status.deaths) == ("WORKER_DIED", 1, 1)


def test_a_run_that_kills_its_process_three_times_is_a_poison_pill(run_id):
    assert lose(run_id, "death", 3).error_code == "POISON_PILL"


def begin_once(run_id):
    claimed = claim(run_id)
    with autocommit() as connection:
        assert store.begin_once(connection, ME, claimed)
    return claimed


@pytest.mark.parametrize("loss", ["death", "lost end", "stop"])
def test_a_run_that_has_begun_and_must_not_run_twice_is_failed_however_it_is_lost(run_id, loss):
    begin_once(run_id)
    recovery.reclaim(ME, [run_id], reason="it is lost", loss=loss)
    status = get_job_status(run_id)
    assert (status.state, status.error_code, status.error["type"]) == ("failed", "WORKER_LOST", "JobLostError")


def test_a_run_that_must_not_run_twice_is_repeated_while_its_job_has_not_begun(run_id):
    assert lose(run_id, "death").state == "pending"


def test_an_attempt_that_did_not_count_says_nothing_of_the_next_one(run_id):
    claimed = begin_once(run_id)
    with autocommit() as connection:
        assert ends.put_back(connection, ME, [PutBack(run_id, "acme", claimed.attempt, "retrying", refund=1)])
    assert lose(run_id, "death").state == "pending"


def test_a_run_that_has_begun_once_is_cancelled_where_that_was_asked_for(run_id):
    begin_once(run_id)
    cancel_job(run_id)
    recovery.reclaim(ME, [run_id], reason="it is lost")
    assert get_job_status(run_id).state == "cancelled"


def test_the_error_of_a_death_says_when_the_attempt_began(run_id):
    began = claim(run_id).started_at
    recovery.reclaim(ME, [run_id], reason="a death", loss="death")
    assert get_job_status(run_id).error["began_at"] == began.isoformat()
