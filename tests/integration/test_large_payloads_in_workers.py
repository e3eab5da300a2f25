"""Large payloads in a real worker, and on the pages that show their runs."""

import pytest

from cgk_tasks import retry_job, send_jobs
from cgk_tasks.dashboard.data.dead_letters import dead_letter_groups, dead_letters
from cgk_tasks.dashboard.data.run_record import run_record
from cgk_tasks.dashboard.data.run_search import RunFilter, find_runs
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed

pytestmark = pytest.mark.usefixtures("worker")

LARGE = "ä large text, " * 1_000


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.support.jobs"])


def bodies_of(run_id):
    with autocommit() as connection:
        return len(fetch(connection, "SELECT id FROM cgk.run_bodies WHERE run_id = %(id)s", {"id": run_id}))


def send(*actions):
    return [run.id for run in send_jobs([Behave(tenant_id="acme", action=one, argument=LARGE) for one in actions])]


def test_a_worker_runs_it_and_the_record_has_it_once():
    (run,) = send("echo")
    done = wait_closed(run)
    assert (done.state, done.payload["argument"], done.result, bodies_of(run)) == ("completed", LARGE, LARGE, 1)


def test_each_attempt_and_each_replay_gets_it():
    (run,) = send("fail")
    dead = wait_closed(run)
    again = wait_closed(retry_job(run).id)
    assert [(one.state, one.attempt, one.payload["argument"]) for one in (dead, again)] == [("failed", 3, LARGE)] * 2
    assert (bodies_of(run), bodies_of(again.id)) == (1, 1)


def test_the_pages_of_the_record_show_its_run():
    (run,) = send("fail_permanently")
    wait_closed(run)
    assert run_record(run).payload["argument"] == LARGE
    assert run in {one.id for one in find_runs(RunFilter(event="test.behave")).runs}
    groups = [one.group for one in dead_letter_groups() if one.group.event == "test.behave"]
    assert run in {letter.id for group in groups for letter in dead_letters(group)[0]}
