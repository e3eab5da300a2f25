"""Applications with a worker inside that stop or are killed amid jobs: nothing is lost, nothing is on twice at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cgk_tasks import get_run, send_job, send_jobs
from cgk_tasks.runs.store import record_of
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import registry
from tests.support.jobs import Behave
from tests.support.limits_jobs import Work
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.slow
JOBS = ["tests.support.jobs"]
MANY = Behave(tenant_id="acme", action="note_slowly", argument="many")


def send(action, argument=""):
    return send_job(Behave(tenant_id="acme", action=action, argument=str(argument))).id


def starts(file):
    """The processes in which the job that waits for this file has begun, in order."""
    started = file.with_suffix(".started")
    return [int(line.split()[1]) for line in started.read_text().splitlines()] if started.exists() else []


def test_a_run_of_an_application_that_is_killed_is_run_by_another_worker(start_application, start_other, tmp_path):
    application, go = start_application(), tmp_path / "go"
    run = send("wait_for_file", go)
    wait_until(lambda: starts(go), what="its job is on")
    start_other(JOBS)
    application.kill()
    wait_until(lambda: len(starts(go)) == 2, 20, "another worker runs it")
    go.touch()
    assert wait_closed(run).result == "released"
    assert starts(go)[0] == application.pid
    assert get_run(run).deaths == 1


def test_a_run_of_a_worker_that_is_killed_is_run_inside_an_application(start_application, start_other, tmp_path):
    other, go = start_other(JOBS), tmp_path / "go"
    run = send("wait_for_file", go)
    wait_until(lambda: starts(go), what="its job is on")
    application = start_application()
    other.kill()
    wait_until(lambda: len(starts(go)) == 2, 20, "the application runs it")
    go.touch()
    assert wait_closed(run).result == "released"
    assert starts(go)[1] == application.pid


def test_applications_that_are_killed_one_after_the_other_lose_nothing(start_application):
    runs = [handle.id for handle in send_jobs([MANY] * 60)]
    for ended in (10, 30):
        application = start_application()
        wait_until(lambda ended=ended: closed(runs) >= ended, 30, f"{ended} have ended")
        application.kill()
    start_application()
    assert {wait_closed(run, 60).state for run in runs} == {"completed"}
    with autocommit() as connection:
        schema = registry.require("acme").schema_name
        rows = connection.execute(f'SELECT run_id FROM "{schema}".orders WHERE run_id = ANY(%s)', [runs]).fetchall()
    assert sorted(run_id for (run_id,) in rows) == sorted(runs)  # with ctx.db: exactly once


def closed(runs):
    with autocommit() as connection:
        statement = "SELECT count(*) FROM cgk.run_history WHERE id = ANY(%s::uuid[])"
        return connection.execute(statement, [runs]).fetchone()[0]


def test_a_stop_waits_for_jobs(start_application, tmp_path):
    application, go = start_application(stop_seconds=60), tmp_path / "go"
    run = send("wait_for_file", go)
    wait_until(lambda: starts(go), what="its job is on")
    application.ask_to_end()
    wait_state(run, "running")
    go.touch()
    assert application.wait_end() == 0
    assert "application goes on" in application.log
    assert get_run(run).result == "released"


def test_a_job_that_outlasts_the_stop_is_interrupted_and_nothing_is_counted(start_application, tmp_path):
    application, go = start_application(stop_seconds=0.2), tmp_path / "go"
    run = send("wait_for_file", go)
    wait_until(lambda: starts(go), what="its job is on")
    application.ask_to_end()
    assert application.wait_end() == 0
    record = record_of(run)
    assert (record["state"], record["attempt"], record["deaths"], record["errors"]) == ("pending", 0, 0, [])
    go.touch()
    start_application()
    assert wait_closed(run).result == "released"


def test_a_job_that_takes_no_interrupt_does_not_keep_the_application_and_runs_again_when_that_has_ended(
    start_application, start_other
):
    application = start_application(stop_seconds=0.2)
    run = send("sleep", "8")  # one call into C
    wait_state(run, "running")
    application.ask_to_end()
    wait_until(lambda: "jobs_go_on_after_stop" in application.log, 20, "it says so")
    assert application.wait_end(5) == 0
    start_other(JOBS)
    assert wait_closed(run, 40).result == "slept"
    assert get_run(run).deaths == 1


def test_runs_that_wait_in_the_application_are_given_back_when_it_stops(start_application):
    application = start_application(concurrency=1, stop_seconds=0.2)
    runs = [send("note_slowly", "waits") for _ in range(40)]
    wait_until(lambda: closed(runs) >= 3, 30, "some have ended")
    application.ask_to_end()
    assert application.wait_end() == 0
    start_application(concurrency=4)
    assert {wait_closed(run, 30).state for run in runs} == {"completed"}
    assert {get_run(run).deaths for run in runs} == {0}


def test_limits_hold_over_applications_and_workers_together(start_application, start_other, tmp_path):
    modules = ["tests.support.limits_jobs"]
    start_application(concurrency=1, modules=modules)
    start_other(modules)
    ended = []

    def both_have_worked():  # one may begin its work when the other has done all of the first runs
        ended.extend(run_work_of_three_tenants(tmp_path))
        return len({status.worker_id for status in ended}) == 2

    wait_until(both_have_worked, 60, "both have worked")
    assert {status.state for status in ended} == {"completed"}
    for status in ended:
        assert len(status.result) <= 3
        assert max(status.result.count(name) for name in status.result) <= 1
        assert max(sum(name.startswith(f"{t}.") for name in status.result) for t in ("acme", "globex", "initech")) <= 2


def run_work_of_three_tenants(folder):
    """Send 24 runs, and give them when they have ended."""
    runs = [
        send_job(Work(tenant_id=tenant, path=str(folder), shop_id=f"s{n % 3}", seconds=0.05)).id
        for n in range(8)
        for tenant in ("acme", "globex", "initech")
    ]
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda run: wait_closed(run, 60), runs))
