"""A run's errors: the first and the last 20 are kept, however often it is tried."""

import json
import uuid
from dataclasses import dataclass

import pytest

from cgk_tasks import get_job_status, send_job
from cgk_tasks.runs import ends, store
from cgk_tasks.runs.ends import Closing, PutBack
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker import recovery
from tests.support.content import change
from tests.support.jobs import Behave

ME = str(uuid.uuid4())
KEPT = 20


@dataclass
class Owned:
    """A run that this test holds as a worker would."""

    id: str
    attempt: int = 0

    def claim(self):
        with autocommit() as connection:
            connection.execute("UPDATE cgk.runs SET state = 'pending', run_at = now() WHERE id = %s", [self.id])
        (claimed,) = store.claim([self.id], ME, 1)
        self.attempt = claimed.attempt
        return claimed

    def error(self):
        return json.dumps({"attempt": self.attempt, "code": "TIMEOUT", "at": "2026-01-01T00:00:00+00:00"})

    def back(self):
        return PutBack(self.id, "acme", self.attempt, "retrying", error=self.error(), error_code="TIMEOUT")

    def retry(self):
        self.claim()
        with autocommit() as connection:
            assert ends.put_back(connection, ME, [self.back()])

    def fail(self, others=()):
        self.claim()
        closings = [
            Closing(run.id, "acme", run.attempt, "failed", error=run.error(), error_code="TIMEOUT")
            for run in (self, *others)
        ]
        with autocommit() as connection:
            assert len(ends.finish(connection, ME, closings)) == len(closings)

    @property
    def attempts(self):
        return [error["attempt"] for error in get_job_status(self.id).errors]

    @property
    def left_out(self):
        return get_job_status(self.id).errors_left_out


@pytest.fixture
def run(database):
    made = Owned(send_job(Behave(tenant_id="acme", action="echo"), queue="q-nobody").id)
    yield made
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = %s", [made.id])


def test_a_few_errors_are_all_kept(run):
    for _ in range(KEPT + 1):
        run.retry()
    assert (run.attempts, run.left_out) == (list(range(1, KEPT + 2)), 0)


def test_of_many_errors_the_first_and_the_last_are_kept_and_the_others_counted(run):
    for _ in range(50):
        run.retry()
    assert (run.attempts, run.left_out) == ([1, *range(31, 51)], 29)


def test_the_error_that_closes_a_run_is_kept_too(run):
    for _ in range(30):
        run.retry()
    run.fail()
    assert (run.attempts, run.left_out) == ([1, *range(12, 32)], 10)


def test_a_packet_that_fails_keeps_them_alike(run):
    other = Owned(send_job(Behave(tenant_id="acme", action="echo"), queue="q-nobody").id)
    other.claim()
    for _ in range(30):
        run.retry()
    run.fail(others=[other])
    assert (run.attempts, run.left_out, other.attempts, other.left_out) == ([1, *range(12, 32)], 10, [1], 0)


def test_deaths_are_errors_like_others(run):
    for _ in range(30):
        run.retry()
    run.claim()
    recovery.reclaim(ME, [run.id], reason="its process died")
    assert (run.attempts, run.left_out) == ([1, *range(12, 32)], 10)
    assert get_job_status(run.id).error["code"] == "WORKER_DIED"


def test_a_record_that_grew_before_is_cut_at_the_next_error(run):
    errors = json.dumps([{"attempt": n, "at": "2026-01-01T00:00:00+00:00"} for n in range(1, 101)])
    with autocommit() as connection:
        change(connection, run.id, errors=errors, attempt=100)
    run.retry()
    assert (run.attempts, run.left_out) == ([1, *range(82, 102)], 80)


def test_a_list_of_runs_has_the_last_code_and_no_errors(run):
    run.retry()
    (listed,) = [one for one in store.listing(event="test.behave") if one.id == run.id]
    assert (listed.errors, listed.error_code) == ([], "TIMEOUT")


def test_the_first_failure_of_a_run_stays_the_first(run):
    for _ in range(30):
        run.retry()
    assert run.claim().first_failed_at.year == 2026
