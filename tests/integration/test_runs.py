"""What becomes of a run in a real worker."""

import pytest

from cgk_tasks import cancel_job, get_job_status, retry_job, send_job, trigger_and_wait
from cgk_tasks.runs import store
from tests.support.jobs import AsyncWork, Behave, Nobody, OneAtATime, Slow, TwoJobs
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.support.jobs"])


def run(action, argument="", tenant="acme", **options):
    return wait_closed(send_job(Behave(tenant_id=tenant, action=action, argument=argument), **options).id)


def test_a_sent_event_runs_its_job_once_and_keeps_the_result():
    status = run("echo", "hello")
    assert (status.state, status.result, status.attempt) == ("completed", "hello", 1)


def test_a_job_is_told_who_what_and_which_attempt():
    handle = send_job(Behave(tenant_id="globex", action="describe"), max_attempts=7)
    told = wait_closed(handle.id).result
    assert told | {"queued": 0, "started": 0} == {
        "job_id": "test-behave", "run_id": handle.id, "attempt": 1, "max_attempts": 7, "tenant": "globex",
        "event": "test.behave", "queued": 0, "started": 0, "payload": "Behave",
    }  # fmt: skip


def test_a_transient_error_is_retried_after_a_pause_until_it_succeeds():
    status = run("fail_then_succeed", "2")
    assert (status.state, status.result, len(status.errors)) == ("completed", 3, 2)


def test_a_run_fails_when_its_attempts_are_used_up_and_keeps_every_error():
    status = run("fail", "broken")
    assert (status.state, status.attempt) == ("failed", 3)
    assert [error["attempt"] for error in status.errors] == [1, 2, 3]
    assert all("ValueError: broken" in error["traceback"] for error in status.errors)


def test_a_permanent_error_is_not_retried():
    status = run("fail_permanently")
    assert (status.state, status.attempt, status.error_code) == ("failed", 1, "ACCOUNT_NOT_FOUND")


def test_a_snooze_uses_no_attempt(tmp_path):
    status = run("snooze_once", str(tmp_path / "flag"), max_attempts=1)
    assert (status.state, status.result) == ("completed", 1)


def test_a_result_that_is_not_json_fails_the_run_with_a_code():
    status = run("not_json")
    assert (status.state, status.error_code) == ("failed", "INVALID_RESULT")


def test_an_event_without_a_job_is_kept_as_unhandled():
    status = wait_closed(send_job(Nobody(tenant_id="acme")).id)
    assert (status.state, status.error_code) == ("unhandled", "NO_JOB")


def test_an_event_with_two_jobs_makes_a_child_run_of_each_and_gathers_their_results():
    handle = send_job(TwoJobs(tenant_id="acme"))
    parent = wait_closed(handle.id)
    children = store.listing(parent_id=handle.id)
    assert (parent.state, parent.result) == ("completed", {"test-first": "first", "test-second": "second"})
    assert {child.job for child in children} == {"test-first", "test-second"}


def test_a_failed_child_fails_its_parent_and_not_its_sibling():
    handle = send_job(TwoJobs(tenant_id="acme", second_fails=True))
    parent = wait_closed(handle.id)
    states = {child.job: child.state for child in store.listing(parent_id=handle.id)}
    assert parent.state == "failed"
    assert states == {"test-first": "completed", "test-second": "failed"}


def test_a_job_is_stopped_at_its_soft_time_limit():
    status = wait_closed(send_job(Slow(tenant_id="acme", seconds=10)).id)
    assert (status.state, status.error_code) == ("failed", "TIMEOUT")


def test_a_job_that_ignores_its_soft_limit_is_killed_at_the_hard_limit_and_recorded():
    status = wait_closed(send_job(Slow(tenant_id="acme", seconds=30, stubborn=True)).id)
    assert (status.state, status.error_code, status.deaths) == ("failed", "TIMEOUT", 0)


def test_an_async_job_runs_on_the_one_loop_of_its_process():
    results = [trigger_and_wait(AsyncWork(tenant_id="acme"), timeout=10).unwrap() for _ in range(4)]
    assert all(result == {"tenant": "acme", "loops": 1} for result in results)


def test_an_async_job_is_stopped_at_its_time_limit():
    status = wait_closed(send_job(AsyncWork(tenant_id="acme", seconds=20)).id)
    assert (status.state, status.error_code) == ("failed", "TIMEOUT")


def test_a_job_with_concurrency_one_never_runs_twice_at_once_for_a_tenant(tmp_path):
    handles = [send_job(OneAtATime(tenant_id="acme", path=str(tmp_path))) for _ in range(3)]
    statuses = [wait_closed(handle.id) for handle in handles]
    assert [(status.state, status.result, status.attempt) for status in statuses] == [("completed", 0, 1)] * 3


def test_a_delayed_run_waits_in_the_record_and_then_runs():
    handle = send_job(Behave(tenant_id="acme", action="echo"), delay=0.5)
    assert get_job_status(handle.id).state == "scheduled"
    status = wait_closed(handle.id)
    assert status.started_at >= status.run_at


def test_a_scheduled_run_that_is_cancelled_never_runs():
    handle = send_job(Behave(tenant_id="acme", action="echo"), delay=3600)
    assert cancel_job(handle.id).state == "cancelled"


def test_a_running_run_is_interrupted_when_it_is_cancelled(tmp_path):
    handle = send_job(Behave(tenant_id="acme", action="wait_for_file", argument=str(tmp_path / "never")))
    wait_until((tmp_path / "never.started").exists)
    cancel_job(handle.id)
    assert wait_closed(handle.id).state == "cancelled"


def test_the_worker_works_on_after_a_cancelled_run(tmp_path):
    handle = send_job(Behave(tenant_id="acme", action="wait_for_file", argument=str(tmp_path / "never")))
    wait_until((tmp_path / "never.started").exists)
    cancel_job(handle.id)
    wait_closed(handle.id)
    assert run("echo", "still here").result == "still here"


def test_a_closed_run_can_be_replayed_as_a_new_run_that_names_it():
    failed = run("fail_permanently")
    replay = wait_closed(retry_job(failed.id).id)
    assert replay.replay_of == failed.id
    assert replay.id != failed.id


def test_a_run_that_expires_before_it_starts_does_not_run():
    handle = send_job(Behave(tenant_id="acme", action="echo"), delay=5, expires=0.2)
    assert wait_closed(handle.id).state == "expired"


def test_what_a_failed_attempt_wrote_is_rolled_back():
    from sqlalchemy import text

    from cgk_tasks import tenant_context, tenant_session

    status = run("write_and_fail", "rolled-back")
    with tenant_context("acme"), tenant_session() as session:
        rows = session.execute(text("SELECT count(*) FROM orders WHERE note = 'rolled-back'")).scalar()
    assert (status.state, rows) == ("failed", 0)


def test_an_attempt_goes_on_at_the_cursor_of_the_one_before_and_no_page_is_written_twice():
    from sqlalchemy import text

    from cgk_tasks import tenant_context, tenant_session

    status = run("pages", "checkpointed")
    with tenant_context("acme"), tenant_session() as session:
        pages = session.execute(text("SELECT note FROM orders WHERE note LIKE 'checkpointed%' ORDER BY note")).scalars()
        assert list(pages) == ["checkpointed-1", "checkpointed-2", "checkpointed-3"]
    assert status.result == 2


def test_a_suspended_tenants_runs_are_held_and_go_on_when_it_is_resumed():
    from cgk_tasks.tenancy import resume_tenant, suspend_tenant

    suspend_tenant("initech", by="test")
    handle = send_job(Behave(tenant_id="initech", action="echo", argument="late"))
    held = wait_state(handle.id, "held").state
    resume_tenant("initech")
    assert (held, wait_closed(handle.id).result) == ("held", "late")
