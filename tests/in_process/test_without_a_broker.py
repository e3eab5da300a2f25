"""PostgreSQL alone: what workers inside applications do where there is no broker."""

import subprocess
import sys
import threading

import psycopg
import pytest

import cgk_tasks
from cgk_tasks import embedded_worker, get_run, pause, resume, send_job, send_jobs, tenant_context
from cgk_tasks.cli.doctor import broker as doctor
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import is_postgresql
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import ROOT

pytestmark = pytest.mark.parametrize("broker", ["postgresql"], indirect=True)


class Telemetry(TenantEvent, event="test.telemetryInside", durable=False):
    """Leaves no record."""


def send(action, argument="", **options):
    return send_job(Behave(tenant_id="acme", action=action, argument=str(argument)), **options).id


def test_what_is_sent_waits_until_a_worker_comes(app):
    run = send("echo", "waited")
    assert get_run(run).state == "pending"
    with embedded_worker(1):
        assert wait_closed(run).result == "waited"


def test_the_most_urgent_runs_first_and_then_the_oldest(app):
    runs = [send("echo", priority=priority) for priority in (0, 5, 9, 5)]
    with embedded_worker(1):
        ended = [wait_closed(run) for run in runs]
    order = sorted(ended, key=lambda run: run.started_at)
    assert [run.id for run in order] == [runs[2], runs[1], runs[3], runs[0]]


def test_what_is_paused_is_left_alone(worker):
    pause(job="test-behave", by="test")
    run = send("echo", "later")
    try:
        assert wait_closed(send_job("test.nobody", {"tenantId": "acme"}).id).state == "unhandled"  # it does work
        assert get_run(run).state in {"pending", "held"}
    finally:
        resume(job="test-behave", by="test")
    assert wait_closed(run).result == "later"


def test_what_has_expired_is_not_run(app):
    run = send("echo", expires=0.05)
    wait_until(lambda: expired(run), what="its time is over")
    with embedded_worker(1):
        assert wait_closed(run).state == "expired"


def expired(run):
    with autocommit() as connection:
        return connection.execute("SELECT expires_at < now() FROM cgk.runs WHERE id = %s", [run]).fetchone()[0]


def test_each_run_is_executed_once_however_many_applications_look_for_it(start_application, tmp_path):
    for _ in range(3):
        start_application(concurrency=3)
    file = tmp_path / "go"
    file.touch()
    runs = [handle.id for handle in send_jobs([waits_for(file)] * 150)]
    assert {wait_closed(run, 60).state for run in runs} == {"completed"}
    started = [line.split()[0] for line in file.with_suffix(".started").read_text().splitlines()]
    assert sorted(started) == sorted(runs)
    assert len({get_run(run).worker_id for run in runs}) == 3


def waits_for(file):
    return Behave(tenant_id="acme", action="wait_for_file", argument=str(file))


def test_an_idle_worker_looks_five_times_a_second(worker):
    looks = []

    def note(statement, _seconds, _error):
        if statement.label == "dispatch.next_dispatched":
            looks.append(threading.get_ident())

    wait_closed(send("echo"))
    door.observe(note)
    try:
        threading.Event().wait(1.1)
        seen = len(looks)
    finally:
        door.forget_observer(note)
    assert 1 <= seen <= 6


def test_it_goes_on_when_its_connections_are_cut(worker):
    wait_closed(send("echo"))
    with psycopg.connect(get_settings().database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    runs = [wait_until(lambda: sent("after"), what="PostgreSQL takes sends again") for _ in range(5)]
    assert {wait_closed(run).result for run in runs} == {"after"}


def sent(argument):
    try:
        return send("echo", argument)
    except cgk_tasks.CgkTasksError:
        return None


def test_an_event_without_a_record_is_refused_and_nothing_else_of_the_batch_is_sent(app):
    with autocommit() as connection:
        before = connection.execute("SELECT count(*) AS n FROM cgk.runs").fetchone()
    with pytest.raises(ConfigurationError, match=r"test\.telemetryInside leaves no record"):
        send_jobs([Behave(tenant_id="acme", action="echo"), Telemetry(tenant_id="acme")])
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) AS n FROM cgk.runs").fetchone() == before


def test_a_task_without_a_record_is_refused(app):
    @app.task(name="tests.telemetry_inside", durable=False)
    def task():
        pass

    with tenant_context("acme"), pytest.raises(ConfigurationError, match="leaves no record"):
        task.delay()


def test_a_celery_worker_is_refused_with_a_sentence(app):
    command = [sys.executable, "-m", "celery", "-A", "cgk_tasks", "worker", "-c", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "error: With CGK_BROKER_URL=postgresql there is no broker, and `celery worker` needs one." in done.stderr


def test_the_doctor_says_that_there_is_none(app):
    (finding,) = doctor.check(get_settings())
    assert (finding.level, finding.message) == ("OK", "None: workers inside applications look in PostgreSQL")


def test_the_url_of_a_database_is_not_taken_for_it(app):
    with pytest.raises(ConfigurationError, match="Write CGK_BROKER_URL=postgresql"):
        is_postgresql("postgresql://user:secret@host/database")
