"""Each event of a job with a Batch is executed once, whoever dies."""

import json
import signal
import subprocess
import sys
import threading

import psycopg
import pytest

from cgk_tasks import cancel_run, get_run, replay_run, send_job
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.runs import store
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker import batches
from tests.support.rule_jobs import Alone, Counted, InTurn, Slowly, Twofold
from tests.support.waiting import busyness, wait_closed, wait_exit, wait_state, wait_until

PROGRAM = """
from cgk_tasks import send_job
from tests.support.rule_jobs import Counted
for number in range({first}, {first} + 25):
    send_job(Counted(tenant_id="acme", key="processes", number=number))
"""

KILLED = """
import sys, time
from cgk_tasks import send_job
from cgk_tasks.tenancy import tenant_context, tenant_session
from tests.support.rule_jobs import Counted
with tenant_context("initech"), tenant_session() as session:
    send_job(Counted(tenant_id="initech", key="killed", number=4000), session=session)
    print("sent", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(["tests.support.rule_jobs"], concurrency=2)


@pytest.fixture(autouse=True)
def afresh(worker):
    for part in (ROUTES, SWITCH):
        current_runtime().drop(part)


def executed(event="rules.counted"):
    """The numbers of all events of the runs that are closed now, once none is open."""
    wait_until(lambda: not store.counts(event=event) or all_closed(event), what="all runs are closed")
    return sorted(number for run in store.listing(event=event, limit=500) for number in get_run(run.id).result or [])


def all_closed(event):
    return all(row["state"] in {"completed", "failed", "cancelled"} for row in store.counts(event=event))


def test_of_many_threads_each_event_is_executed_once():
    def send(first):
        for number in range(first, first + 25):
            send_job(Counted(tenant_id="globex", key="threads", number=number))

    threads = [threading.Thread(target=send, args=(1000 + 25 * thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [number for number in executed() if 1000 <= number < 2000]
    assert found == list(range(1000, 1200))


def test_of_many_processes_each_event_is_executed_once():
    programs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM.format(first=2000 + 25 * process)]) for process in range(4)
    ]
    assert [program.wait(60 * busyness()) for program in programs] == [0] * 4
    found = [number for number in executed() if 2000 <= number < 3000]
    assert found == list(range(2000, 2100))


def test_a_sender_that_is_killed_before_its_commit_has_sent_nothing_and_holds_up_nobody():
    sender = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE)
    assert sender.stdout.readline() == b"sent\n"
    sender.send_signal(signal.SIGKILL)
    wait_exit(sender)
    send_job(Counted(tenant_id="initech", key="killed", number=4001))
    assert [number for number in executed() if 4000 <= number < 5000] == [4001]


def test_a_run_whose_process_dies_has_all_of_its_events_again(tmp_path):
    events = [
        Counted(tenant_id="acme", key="death", number=number, action="die once", path=str(tmp_path / "died"))
        for number in range(3)
    ]
    first, *_ = map(send_job, events)
    run = wait_closed(first.id)
    assert (run.deaths, run.result) == (1, [0, 1, 2])


def test_an_answer_that_is_lost_after_the_commit_loses_no_event(monkeypatch):
    """A worker's own doing, here: it takes in what was added, and its connection breaks before it hears of that."""
    first, *_ = [send_job(Slowly(tenant_id="globex", number=number)) for number in range(3)]
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'pending' WHERE id = %s", [first.id])
    worker_id = new_run_id()
    (claimed,) = store.claim([first.id], worker_id, 1)
    really, broken = batches._whole, []

    def take_in(run, worker_id):
        found = really(run, worker_id)
        if not broken:
            broken.append(found)
            raise psycopg.OperationalError("the answer is lost")
        return found

    monkeypatch.setattr(batches, "_whole", take_in)
    run = batches.whole(claimed, worker_id, 5)
    cancel_run(first.id)
    assert [event["number"] for event in json.loads(run.payload)] == [0, 1, 2]


def test_each_job_of_an_event_with_several_gets_all_of_its_events():
    first, *_ = [send_job(Twofold(tenant_id="acme", number=number)) for number in (2, 3)]
    assert wait_closed(first.id).result == {"rules-sum": 5, "rules-list": [2, 3]}


def test_limits_of_runs_count_for_those_that_took_in_several_sends():
    for number in range(8):
        send_job(InTurn(tenant_id="acme", key="k", number=number))
    assert executed("rules.in_turn") == list(range(8))


def test_with_at_once_the_newest_begins_when_the_old_one_has_ended(tmp_path):
    old = send_job(Alone(tenant_id="acme", path=str(tmp_path / "never")))
    wait_state(old.id, "running")
    new = send_job(Alone(tenant_id="acme"))
    ended, begun = wait_closed(old.id), wait_closed(new.id)
    assert (ended.state, begun.state) == ("cancelled", "completed")
    assert ended.closed_at <= begun.started_at


def test_a_replay_of_a_run_that_never_began_has_all_of_its_events():
    first, *_ = [send_job(Slowly(tenant_id="acme", number=number)) for number in range(3)]
    cancel_run(first.id)
    assert wait_closed(replay_run(first.id).id).result == [0, 1, 2]


def test_a_failed_run_keeps_them_for_its_replay():
    events = [Counted(tenant_id="acme", key="fails", number=number, action="fail") for number in range(3)]
    first, *_ = map(send_job, events)
    failed = wait_closed(first.id)
    again = wait_closed(replay_run(failed.id).id)
    assert [[event["number"] for event in run.payload] for run in (failed, again)] == [[0, 1, 2], [0, 1, 2]]


def test_events_that_were_added_are_nowhere_else_once_the_run_has_begun():
    first, *_ = [send_job(Counted(tenant_id="acme", key="kept", number=number)) for number in range(3)]
    wait_closed(first.id)
    with autocommit() as connection:
        rows = connection.execute("SELECT FROM cgk.mail WHERE run_id = %s", [first.id]).fetchall()
    assert rows == []


def test_a_worker_whose_job_takes_no_batches_loses_none_of_their_events(start_worker):
    """As while a deployment of the application goes on: the run fails, and a replay has all of its events."""
    first, *_ = [send_job(Slowly(tenant_id="initech", number=number)) for number in range(3)]
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET event = 'rules.plain', run_at = now() WHERE id = %s", [first.id])
    failed = wait_closed(first.id)
    assert (failed.state, failed.error_code) == ("failed", "INVALID_PAYLOAD")
    assert "a job with a Batch takes" in failed.error["message"]
