"""PostgreSQL refuses to record how a run ended: that run fails, its neighbours do not notice, and the log says why."""

import json
from collections import Counter

import pytest

from cgk_tasks import SendItem, get_job_status, send_jobs
from cgk_tasks.broker import packets
from cgk_tasks.sql.postgres import autocommit, fetch, retry_conflicts
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed

REFUSE = """
CREATE FUNCTION public.refuse_completion() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'this completion is refused' USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON cgk.run_history FOR EACH ROW
WHEN (NEW.state = 'completed' AND convert_from(NEW.sealed_payload, 'UTF8') LIKE '%to be refused%')
EXECUTE FUNCTION public.refuse_completion()
"""
ALLOW = "DROP TRIGGER refuse ON cgk.run_history; DROP FUNCTION public.refuse_completion()"


@pytest.fixture(scope="module")
def refusing(database):
    """The trigger comes before the worker and goes after it: it locks tables."""
    retry_conflicts(lambda: change(REFUSE))
    yield
    retry_conflicts(lambda: change(ALLOW))


def change(statements):
    with autocommit() as connection:
        connection.execute(statements)


@pytest.fixture(scope="module")
def worker(start_worker, refusing):
    return start_worker(["tests.support.jobs"], concurrency=1, CGK_PACKET_BUDGET_SECONDS="60")


def send_packet(monkeypatch, action, *arguments):
    """Runs that travel in one message; their ids."""
    monkeypatch.setattr(packets, "packet_length", lambda _event, waiting: waiting)
    items = [SendItem(Behave(tenant_id="acme", action=action, argument=argument)) for argument in arguments]
    return [handle.id for handle in send_jobs(items)]


def lines_of(worker):
    return [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]


def notes():
    """How often each argument was written to the tenant's table."""
    with autocommit() as connection:
        return Counter(row["note"] for row in fetch(connection, "SELECT note FROM tenant_acme.orders"))


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("action", ["echo", "note"], ids=["gathered with its packet", "committed with what it wrote"])
def test_a_run_whose_completion_is_refused_fails_and_its_neighbours_complete(worker, monkeypatch, action):
    before, refused, after = send_packet(monkeypatch, action, f"{action} 1", f"{action} to be refused", f"{action} 2")

    failed = wait_closed(refused)
    assert (failed.state, failed.error_code) == ("failed", "OUTCOME_NOT_RECORDED")
    assert 1 <= failed.attempt <= 3
    assert [(wait_closed(one).state, get_job_status(one).attempt) for one in (before, after)] == [("completed", 1)] * 2

    told = [
        line
        for line in lines_of(worker)
        if line.get("message") == "outcome_not_recorded" and line.get("run") == refused
    ]
    assert told
    assert "this completion is refused" in json.dumps(told[0])
    assert "Traceback" in json.dumps(told[0])


@pytest.mark.usefixtures("refusing")
def test_what_a_refused_run_wrote_is_not_there_and_its_neighbours_writes_are_there_once(worker, monkeypatch):
    runs = send_packet(monkeypatch, "note", "kept 1", "kept and to be refused", "kept 2")
    for run in runs:
        wait_closed(run)
    written = notes()
    assert [written[note] for note in ("kept 1", "kept and to be refused", "kept 2")] == [1, 0, 1]
