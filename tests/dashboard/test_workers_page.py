"""What each worker does now, and draining one: real workers, with and without a broker."""

import os
import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import get_job_status, send_job
from cgk_tasks.dashboard import audit
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.queues import list_queues
from cgk_tasks.flow.workers import drain_workers, list_workers, resume_workers
from cgk_tasks.sql.postgres import autocommit
from tests.in_process.applications import Application
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_state, wait_until
from tests.support.workers import Worker

JOBS = ("tests.support.jobs",)


@pytest.fixture(autouse=True)
def clean(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.run_history, cgk.workers, cgk.presence, cgk.leases")


@pytest.fixture
def worker(database):
    one = Worker(JOBS)
    yield one.wait_ready()
    one.stop()


def send(action="echo", argument="", tenant="acme"):
    return send_job(Behave(tenant_id=tenant, action=action, argument=str(argument))).id


@pytest.fixture
def gate(tmp_path):
    """A job that runs until `open()`."""

    class Gate:
        path = tmp_path / "gate"

        def send(self):
            return send("wait_for_file", self.path)

        def open(self):
            self.path.touch()

    yield Gate()
    Gate.path.touch()


def the(name):
    """The worker of this name; None if there is none."""
    return next(iter(list_workers(name)), None)


def wait_for(name, *states):
    return wait_until(
        lambda: one if (one := the(name)) is not None and one.state in states else None, 30, f"{name} is {states}"
    )


def text_of(answer):
    assert answer.status_code == 200, answer.text
    return " ".join(answer.text.split())


def row(name="old@here", **columns):
    """A worker on record that is none, and is not silent however long the test takes."""
    values = {
        "id": str(uuid.uuid4()), "name": name, "pid": 1, "queues": ["q-rows"], "revision": "0031",
        "heartbeat_at": datetime.now(UTC) + timedelta(hours=1), **columns,
    }  # fmt: skip
    names = ", ".join(values)
    with autocommit() as connection:
        connection.execute(
            f"INSERT INTO cgk.workers ({names}) VALUES ({', '.join(f'%({one})s' for one in values)})", values
        )
    return values["id"]


def test_without_a_worker_the_page_says_how_to_start_one(viola):
    text = text_of(viola.open("/workers"))
    assert "No worker is on record, so no run starts." in text
    assert "celery -A cgk_tasks worker" in text
    assert "embedded_worker()" in text


def test_a_worker_has_its_processes_with_their_runs_and_memory(viola, worker, gate):
    run = gate.send()
    wait_state(run, "running")
    children = {child.pid for child in worker.children()}
    wait_until(lambda: {one.pid for one in the(worker.name).processes} == children, 30, "its children are on record")
    found = the(worker.name)
    assert (found.state, found.pool_size, found.host, found.pid) == ("active", 2, "test", worker.pid)
    assert all(one.memory > 10 << 20 for one in found.processes)
    (busy,) = [one for one in found.processes if one.runs]
    assert [(one.id, one.tenant_id, one.event, one.attempt) for one in busy.shown] == [(run, "acme", "test.behave", 1)]
    text = text_of(viola.open("/workers"))
    assert f'href="/runs/{run}"' in text
    assert f">{busy.pid}<" in text
    assert text.count('<span class="quiet">idle</span>') == 1
    assert os.environ["CGK_DEFAULT_QUEUE"] in text


def test_a_drained_worker_finishes_what_it_has_and_takes_no_more(worker, gate, oscar):
    first = gate.send()
    wait_state(first, "running")
    page = oscar.open("/workers")
    answer = oscar.submit(page, f"/workers/{the(worker.name).id}/drain", reason="new kernel")
    assert f"{worker.name} takes no more runs" in answer.text
    wait_for(worker.name, "draining")
    others = [send() for _ in range(5)]  # there is a child that has nothing to do
    gate.open()
    assert wait_closed(first).state == "completed"
    wait_for(worker.name, "drained")
    assert {get_job_status(run).state for run in others} == {"pending"}
    assert "new kernel" in text_of(oscar.open("/workers"))
    line = audit.lines(limit=1)[0]
    assert (line.who, line.action, line.message) == ("oscar", "drain worker", f"{worker.name}: new kernel")


def test_runs_of_before_the_drain_that_no_child_has_begun_are_for_others(worker, gate):
    """More messages than the worker has children: some of them are in its main process."""
    held = [gate.send() for _ in range(2)]
    for run in held:
        wait_state(run, "running")
    waiting = [send() for _ in range(20)]
    drain_workers(worker.name)
    wait_for(worker.name, "draining")
    gate.open()
    for run in held:
        assert wait_closed(run).state == "completed"
    wait_for(worker.name, "drained")
    assert {get_job_status(run).state for run in waiting} == {"pending"}
    other = Worker(JOBS)
    try:
        other.wait_ready()
        assert {wait_closed(run, 30).state for run in waiting} == {"completed"}
    finally:
        other.stop()


def test_it_takes_work_again(worker, oscar):
    drain_workers(worker.name)
    wait_for(worker.name, "drained")
    run = send()
    page = oscar.open("/workers")
    answer = oscar.submit(page, f"/workers/{the(worker.name).id}/resume")
    assert f"{worker.name} takes runs again." in answer.text
    assert wait_closed(run, 30).state == "completed"
    wait_for(worker.name, "active")
    assert audit.lines(limit=1)[0].action == "let worker take runs"


def test_a_drained_worker_still_dispatches_what_is_due(worker):
    """It may be the only one that leads."""
    drain_workers(worker.name)
    wait_for(worker.name, "drained")
    run = send_job(Behave(tenant_id="acme", action="echo"), delay=0.2).id
    wait_until(lambda: get_job_status(run).state == "pending", 30, "the run is due")


def test_it_stops_as_any_other(worker):
    drain_workers(worker.name)
    wait_for(worker.name, "drained")
    assert worker.stop() == 0
    assert the(worker.name) is None


def test_a_worker_that_starts_again_takes_work(worker):
    drain_workers(worker.name)
    wait_for(worker.name, "drained")
    worker.stop()
    worker.restart()
    run = send()
    assert wait_closed(run, 30).state == "completed"
    wait_for(worker.name, "active")


def test_a_worker_that_was_given_up_meanwhile_stays_drained(worker):
    drain_workers(worker.name)
    before = wait_for(worker.name, "drained")
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.workers")
        connection.execute("DELETE FROM cgk.presence")
    wait_for(worker.name, "drained")
    assert the(worker.name).drain_wanted_at == before.drain_wanted_at


def test_a_killed_worker_disappears_and_a_neighbour_tells(worker):
    other = Worker(JOBS)
    try:
        other.wait_ready()
        worker.kill()
        wait_until(lambda: the(worker.name) is None, 30, "the killed worker is off the record")
        assert the(other.name).state == "active"
    finally:
        other.stop()


@pytest.mark.parametrize("broker", [{}, {"CGK_BROKER_URL": "postgresql"}])
def test_a_worker_inside_an_application_is_there_and_is_drained(gate, broker, setting, viola):
    setting(**broker)
    application = Application(modules=JOBS, **broker)
    try:
        application.wait_ready()
        run = gate.send()
        wait_state(run, "running")
        name = next(one.name for one in list_workers())
        assert the(name).is_inside_an_application
        assert [one.runs for one in the(name).processes] == [1]
        assert "inside an application" in text_of(viola.open("/workers"))
        drain_workers(name)
        wait_for(name, "draining")
        later = send()
        gate.open()
        assert wait_closed(run).state == "completed"
        wait_for(name, "drained")
        assert get_job_status(later).state == "pending"
        resume_workers(name)
        assert wait_closed(later, 30).state == "completed"
    finally:
        application.kill()


def test_drained_workers_are_not_among_those_that_listen_to_a_queue():
    worker = row()
    assert {one.queue: one.workers for one in list_queues()}["q-rows"] == 1
    drain_workers(worker)
    assert "q-rows" not in {one.queue for one in list_queues()}


def test_who_drained_it_first_and_why_stays():
    row()
    drain_workers("old@here", by="ada", reason="first")
    drain_workers("old@here", by="oscar", reason="second")
    one = the("old@here")
    assert (one.state, one.drain_wanted_by, one.drain_reason) == ("to be drained", "ada", "first")


def test_all_workers_of_a_name_are_drained_and_one_by_its_id():
    ids = [row(), row()]
    assert len(drain_workers("old@here")) == 2
    assert resume_workers(ids[0]) == 1
    assert [one.state for one in sorted(list_workers("old@here"), key=lambda one: ids.index(one.id))] == [
        "active", "to be drained",
    ]  # fmt: skip


def test_a_worker_of_an_earlier_release_is_shown_and_not_drained(viola, oscar):
    row(revision="0029")
    with pytest.raises(InvalidOptionError, match="of an earlier release"):
        drain_workers("old@here")
    assert "Of an earlier release, which cannot be drained." in oscar.open("/workers").text
    assert the("old@here").drain_wanted_at is None


def test_a_worker_that_is_gone_cannot_be_drained(oscar):
    token = {"_xsrf": oscar.cookies["_xsrf"]} if oscar.open("/audit").ok else {}
    answer = oscar.post(f"{oscar.base}/workers/{uuid.uuid4()}/drain", data=token, timeout=30)
    assert answer.status_code == 400
    assert "no worker on record" in answer.text
    assert audit.lines(limit=1)[0].outcome == "refused"


def test_a_silent_worker_says_so():
    row()
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET heartbeat_at = now() - interval '1 minute'")
    assert the("old@here").state == "silent"


def test_runs_claimed_together_are_counted_and_some_of_them_shown(viola, open_run):
    worker = row()
    for _ in range(60):
        open_run(state="running", worker_id=worker, worker_pid=77, attempt=1, started_at="now()")
    (process,) = [one for one in the("old@here").processes if one.pid == 77]
    assert (process.runs, len(process.shown)) == (60, 50)
    assert "and 10 more that it has claimed" in text_of(viola.open("/workers"))


def test_names_do_not_break_out_of_the_page(viola):
    row("<script>alert(1)</script>@here", drain_wanted_at="now()", drain_reason="<b>why</b>")
    text = text_of(viola.open("/workers"))
    assert "<script>alert" not in text
    assert "<b>why" not in text


def test_a_viewer_sees_no_buttons_and_an_operator_does(viola, oscar):
    worker = row()
    assert f"/workers/{worker}/drain" in oscar.open("/workers").text
    assert "/drain" not in viola.open("/workers").text


def test_workers_are_found_by_name_and_queue(viola):
    row("one@here", queues=["emails"])
    row("two@here", queues=["reports"])
    for text, name in (("one@", "one@here"), ("report", "two@here")):
        found = re.findall(r"<h2 id=\"w-[^\"]+\">(\S+) ", viola.open("/workers", params={"text": text}).text)
        assert found == [name]


def test_of_very_many_workers_some_are_shown_and_the_others_are_found(viola):
    for number in range(101):
        row(f"w{number:03}@here")
    text = text_of(viola.open("/workers"))
    assert "The first 100 of 101" in text
    assert "1 more workers: look for them by name or queue." in text
    assert "w100@here" not in text
    assert "w100@here" in text_of(viola.open("/workers?text=w100"))


@pytest.fixture
def before_the_migration(database):
    """A database without the columns that draining needs."""
    names = ("drain_wanted_at", "drain_wanted_by", "drain_reason", "drains_since", "drained_at", "pool_size", "memory")
    with autocommit() as connection:
        for name in names:
            connection.execute(f"ALTER TABLE cgk.workers RENAME COLUMN {name} TO {name}_away")
    yield
    with autocommit() as connection:
        for name in names:
            connection.execute(f"ALTER TABLE cgk.workers RENAME COLUMN {name}_away TO {name}")


def test_before_the_migration_the_page_shows_what_there_is(viola, before_the_migration):
    row()
    assert "old@here" in text_of(viola.open("/workers"))


def test_before_the_migration_a_worker_works(before_the_migration, worker):
    assert wait_closed(send(), 30).state == "completed"
    assert the(worker.name).state == "active"
