"""Claims are not flushed to disk: what a crash of PostgreSQL makes it forget, the workers say again."""

import uuid

import pytest

from cgk_tasks import get_job_status, send_job
from cgk_tasks.sql.postgres import autocommit, transaction
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.support.jobs"])


def crash_and_forget(run_id, state):
    """What a crash does right after a claim: the unlogged table is empty, and the claim never was."""
    with transaction() as connection:
        connection.execute("TRUNCATE cgk.presence")
        connection.execute(
            "UPDATE cgk.runs SET state = %s, attempt = attempt - 1, worker_id = NULL WHERE id = %s", (state, run_id)
        )


@pytest.mark.parametrize("state", ["pending", "held"])  # held: it was forgotten, too, that the run was admitted
def test_a_run_whose_claim_was_forgotten_is_running_again_as_it_was_and_completes_once(tmp_path, state):
    release = tmp_path / "release"
    handle = send_job(Behave(tenant_id="acme", action="wait_for_file", argument=str(release)))
    wait_until((tmp_path / "release.started").exists)  # no crash is so quick that the worker could not note its claim
    before = get_job_status(handle.id)
    crash_and_forget(handle.id, state)
    after = wait_state(handle.id, "running")
    release.touch()
    status = wait_closed(handle.id)
    begun = (tmp_path / "release.started").read_text().splitlines()
    assert (after.attempt, after.worker_id) == (before.attempt, before.worker_id)
    assert (status.state, status.attempt, len(begun)) == ("completed", 1, 1)


@pytest.fixture
def silent_worker():
    """A worker that was there before a crash and has not spoken since; returns how to make it speak."""
    worker_id = str(uuid.uuid4())
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues) VALUES (%s, 'silent', 1, '{}')", (worker_id,)
        )

    def speak():
        with autocommit() as connection:
            connection.execute("INSERT INTO cgk.presence VALUES (%s) ON CONFLICT DO NOTHING", (worker_id,))

    yield speak
    with transaction() as connection:
        connection.execute("DELETE FROM cgk.workers WHERE id = %s", (worker_id,))
        connection.execute("DELETE FROM cgk.presence WHERE worker_id = %s", (worker_id,))


def test_nobody_claims_before_every_worker_has_spoken(silent_worker):
    handle = send_job(Behave(tenant_id="acme", action="echo", argument="patience"))
    beats = []

    def three_heartbeats():
        with autocommit() as connection:
            row = connection.execute("SELECT max(heartbeat_at) FROM cgk.workers WHERE name <> 'silent'").fetchone()
        if not beats or row[0] != beats[-1]:
            beats.append(row[0])
        return len(beats) > 3

    wait_until(three_heartbeats)
    waiting = get_job_status(handle.id).state
    silent_worker()
    assert (waiting, wait_closed(handle.id).result) == ("pending", "patience")
