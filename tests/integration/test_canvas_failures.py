"""What follows a run that does not complete: nothing waits for ever, and everybody who asked is told."""

from pathlib import Path

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult

from cgk_tasks import cancel_job, get_job_status, retry_job
from cgk_tasks.errors import RunFailedError
from cgk_tasks.runs import store
from cgk_tasks.tenancy import tenant_context
from tests.integration import canvas_tasks as tasks
from tests.integration.canvas_tasks import NotEnoughMoney, add, collect, total
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.usefixtures("acme")


@pytest.fixture(scope="module")
def worker(start_worker):
    # What follows a task that opts out of the record travels in its message.
    return start_worker(["tests.integration.canvas_tasks"], CGK_EXTERNAL_EVENTS=total.name)


def error_of(result, timeout=20):
    """The error of this very run, whatever its parents say."""
    return AsyncResult(result.id).get(timeout=timeout, interval=0.02, propagate=False)


def runs_named(task, tenant="acme"):
    return store.listing(tenant_id=tenant, event=task.name, limit=500)


def lines(path, count=1):
    return wait_until(
        lambda: found if Path(path).exists() and len(found := Path(path).read_text().splitlines()) >= count else None
    )


# ---- chains ---------------------------------------------------------------------------------------------------------


def test_the_rest_of_a_chain_fails_with_the_error_and_is_not_run():
    result = (tasks.fail.si("first") | add.s(1) | add.s(2)).delay()
    assert [repr(error_of(link)) for link in (result, result.parent)] == ["NotEnoughMoney('first')"] * 2
    status = get_job_status(result.id)
    assert (status.state, status.error_code, status.attempt) == ("failed", "PREDECESSOR_FAILED", 0)


def test_a_group_at_the_end_of_a_failed_chain_fails():
    result = (tasks.fail.si() | add.s(1) | group(add.s(2), add.s(3))).delay()
    assert [type(error_of(member)) for member in result.results] == [NotEnoughMoney, NotEnoughMoney]


def test_a_chord_at_the_end_of_a_failed_chain_fails():
    result = (tasks.fail.si() | group(add.s(2), add.s(3)) | total.s()).delay()
    assert type(error_of(result)) is NotEnoughMoney


def test_a_replay_of_the_failed_link_goes_on_with_the_chain(tmp_path):
    result = (tasks.fail_without.si(str(tmp_path / "f"), 1) | add.s(2) | add.s(3)).delay()
    assert isinstance(error_of(result), FileNotFoundError)
    (tmp_path / "f").touch()
    retry_job(result.parent.parent.id)
    wait_until(lambda: AsyncResult(result.id).status == "SUCCESS")
    assert AsyncResult(result.id).get(timeout=1) == 6


def test_what_a_failed_chain_left_out_can_be_replayed():
    result = (tasks.fail.si() | add.si(1, 2)).delay()
    error_of(result)
    assert wait_closed(retry_job(result.id).id).result == 3


def test_an_ignored_link_ends_its_chain_without_a_failure():
    result = (tasks.ignored.s() | add.si(1, 1)).delay()
    assert wait_closed(result.parent.id).state == "completed"
    assert result.status == "PENDING"


def test_an_event_without_a_job_fails_the_rest_of_its_chain():
    result = (tasks.nobody_listens.s(tenant_id="acme") | collect.s()).delay()
    error = error_of(result)
    assert isinstance(error, RunFailedError)
    assert "no job is registered" in str(error)


def test_an_event_of_which_one_job_fails_fails_the_rest_of_its_chain():
    result = (tasks.several_jobs.s(tenant_id="acme", number=-1) | collect.s()).delay()
    assert isinstance(error_of(result), RunFailedError)


# ---- error links ----------------------------------------------------------------------------------------------------


def test_an_error_link_with_one_argument_gets_the_id(tmp_path):
    result = tasks.fail.apply_async(link_error=tasks.old_errback.s(str(tmp_path / "f")))
    assert lines(tmp_path / "f") == [result.id]


def test_an_error_link_with_more_arguments_gets_request_exception_and_traceback(tmp_path):
    errback = tasks.new_errback.s(str(tmp_path / "f"))
    result = tasks.fail.apply_async(("poor",), link_error=errback)
    assert lines(tmp_path / "f") == [f"{result.id} NotEnoughMoney poor True"]


def test_an_error_link_runs_for_the_tenant_of_the_run_that_failed(tmp_path):
    from cgk_tasks.tenancy import platform_context

    with platform_context(), tenant_context("initech"):
        tasks.fail.apply_async(link_error=tasks.old_errback.s(str(tmp_path / "f")))
    lines(tmp_path / "f")
    assert [run.tenant_id for run in runs_named(tasks.old_errback, "initech")] == ["initech"]


def test_an_error_link_of_a_chain_is_called_once_for_the_link_that_failed(tmp_path):
    result = (add.s(1, 1) | tasks.fail.si() | add.s(1)).on_error(tasks.old_errback.s(str(tmp_path / "f"))).delay()
    error_of(result)
    assert lines(tmp_path / "f") == [result.parent.id]


def test_an_error_link_is_not_called_before_the_last_attempt(tmp_path):
    result = tasks.retry_until.apply_async((2, 1), link_error=tasks.old_errback.s(str(tmp_path / "f")))
    assert result.get(timeout=20, interval=0.02) == 1
    assert not (tmp_path / "f").exists()


# ---- chords ---------------------------------------------------------------------------------------------------------


def test_the_body_of_a_chord_with_a_failed_member_never_runs():
    result = chord([tasks.fail.si("poor"), add.s(1, 1)])(total.s())
    error = error_of(result)
    assert isinstance(error, ChordError)
    assert "NotEnoughMoney('poor')" in str(error)
    assert get_job_status(result.id).attempt == 0


def test_the_error_link_of_a_chords_body_is_called_once(tmp_path):
    body = total.s().on_error(tasks.new_errback.s(str(tmp_path / "f")))
    result = chord([tasks.fail.si(), tasks.fail.si(), add.s(1, 1)])(body)
    error_of(result)
    assert [line.split()[:2] for line in lines(tmp_path / "f")] == [[result.id, "ChordError"]]


def test_what_follows_the_body_of_a_failed_chord_fails():
    result = chain(group(tasks.fail.si(), add.s(1, 1)), total.s(), add.s(1), add.s(2)).delay()
    assert isinstance(error_of(result), ChordError)


def test_every_task_of_a_group_body_fails(tmp_path):
    body = group(total.s().on_error(tasks.old_errback.s(str(tmp_path / "f"))), collect.s())
    result = chord([tasks.fail.si(), add.s(1, 1)])(body)
    assert [type(error_of(member)).__name__ for member in result.results] == ["NotEnoughMoney", "NotEnoughMoney"]
    assert lines(tmp_path / "f") == [result.results[0].id]


def test_an_error_link_that_a_chord_shares_with_one_in_its_header_is_called_once(tmp_path):
    before = len(runs_named(tasks.old_errback))
    inner = chord([add.s(1, 1), tasks.fail.si()], total.s())
    middle = chord([add.s(1, 1), inner], total.s())
    outer = chord([add.s(1, 1), middle], total.s())
    outer.link_error(tasks.old_errback.s(str(tmp_path / "f")))
    result = outer.delay()
    assert isinstance(error_of(result), ChordError)
    assert len(runs_named(tasks.old_errback)) == before + 1


@pytest.mark.parametrize(
    "member",
    [
        lambda: chord([tasks.fail.si(), add.s(1, 1)], total.s()),
        lambda: chord([tasks.fail.si(), add.s(1, 1)], total.s() | add.s(1)),
        lambda: chord([tasks.fail.si(), add.s(1, 1)], group(total.s(), collect.s())),
        lambda: tasks.fail.si() | add.s(1),
        lambda: tasks.fail.si() | group(add.s(1), add.s(2)),
        lambda: tasks.fail.si() | chord([add.s(1), add.s(2)], total.s()),
    ],
    ids=[
        "chord",
        "chord with a chain",
        "chord with a group",
        "chain",
        "chain into group",
        "chain into chord",
    ],
)
def test_a_chord_fails_with_a_nested_member(member):
    result = chord([member(), add.s(1, 1)])(total.s())
    assert isinstance(error_of(result), ChordError)


def test_a_member_that_opts_out_of_the_record_fails_its_chord():
    header = [tasks.fleeting_failure.s(), add.s(1, 1)]
    started = tasks.start.delay(chord(header, total.s())).get(timeout=20, interval=0.02)
    assert isinstance(error_of(AsyncResult(started)), ChordError)


# ---- runs that close without a worker -------------------------------------------------------------------------------


def test_a_run_that_expires_fails_the_rest_of_its_chain_and_calls_its_error_link(tmp_path):
    expiring = add.s(1, 1).set(countdown=30, expires=0.2).on_error(tasks.old_errback.s(str(tmp_path / "f")))
    result = (expiring | add.s(1)).delay()
    assert isinstance(error_of(result), TaskRevokedError)
    assert lines(tmp_path / "f") == [result.parent.id]


def test_a_run_that_is_cancelled_while_it_waits_fails_its_chord():
    result = chord([add.s(1, 1).set(countdown=30), add.s(2, 2)])(total.s())
    cancel_job(result.parent.results[0].id)
    assert isinstance(error_of(result), ChordError)


def test_a_run_that_is_cancelled_while_it_runs_fails_the_rest_of_its_chain(tmp_path):
    result = (tasks.wait_for.si(str(tmp_path / "never")) | add.s(1)).delay()
    wait_state(result.parent.id, "running")
    cancel_job(result.parent.id)
    assert isinstance(error_of(result), TaskRevokedError)


def test_a_poison_pill_fails_its_chord_and_the_chain_behind_it():
    result = chain(group(tasks.die_always.s(), add.s(1, 1)), total.s(), add.s(1)).delay()
    assert isinstance(error_of(result), ChordError)


# ---- what cannot be sent --------------------------------------------------------------------------------------------


def test_a_link_that_cannot_be_sent_leaves_the_run_completed_and_is_on_record():
    link = tasks.never.s("too", "many", "arguments")
    link.freeze()
    result = add.apply_async((1, 1), link=[link, add.s(1)])
    assert result.get(timeout=20, interval=0.02) == 2
    status = wait_closed(link.id)
    assert (status.state, status.error_code, status.error["type"]) == ("failed", "NOT_SENT", "TypeError")


def test_a_chain_whose_next_task_cannot_be_sent_fails_there():
    result = (add.s(1, 1) | tasks.never.s("too many") | add.s(1)).delay()
    assert (type(error_of(result.parent)), type(error_of(result))) == (TypeError, TypeError)
    assert result.parent.parent.get(timeout=1) == 2


def test_a_chord_whose_body_cannot_be_sent_fails():
    result = chord([add.s(1, 1)])(tasks.never.s("too many"))
    error = error_of(result)
    assert isinstance(error, ChordError)
    assert "Callback error" in str(error)


def test_an_event_that_is_handed_a_result_says_how_to_send_it_instead():
    result = (add.s(1, 1) | tasks.one_job.s(tenant_id="acme", number=3)).delay()
    assert "by keyword" in str(error_of(result))
