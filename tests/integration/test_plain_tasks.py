"""An application's own `@app.task` functions are durable runs of a tenant, and behave as Celery's users expect."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from celery import chord
from celery.exceptions import MaxRetriesExceededError, TaskRevokedError, WorkerLostError
from celery.result import AsyncResult, result_from_tuple

from cgk_tasks import get_job_status
from cgk_tasks.errors import (
    InvalidOptionError,
    ResultTooLargeError,
    TenantContextError,
    TenantMissingError,
    UnknownTenantError,
)
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import platform_context
from tests.integration import canvas_tasks as tasks
from tests.support.waiting import get, wait_closed, wait_until

pytestmark = pytest.mark.usefixtures("acme")


def status_of(result):
    return get_job_status(run_id_of(result.id))


def lines(path, count):
    """The file's lines, once it has that many."""
    return wait_until(
        lambda: found if Path(path).exists() and len(found := Path(path).read_text().splitlines()) >= count else None
    )


def test_delay_runs_the_function_and_keeps_its_result():
    result = tasks.add.delay(1, y=2)
    assert (get(result), result.status, result.ready()) == (3, "SUCCESS", True)
    assert status_of(result).tenant_id == "acme"


def test_send_task_by_name_does_the_same():
    assert get(tasks.app.send_task(tasks.add.name, args=(1, 2))) == 3


def test_a_task_id_of_the_callers_own_is_kept():
    result = tasks.request_of.apply_async(task_id="invoice 7")
    assert get(result)["id"] == "invoice 7"
    assert AsyncResult("invoice 7").get(timeout=1)["root_id"] == "invoice 7"


def test_the_request_tells_which_run_this_is():
    result = tasks.request_of.apply_async((1,), priority=5)
    told = get(result)
    assert told == {
        "id": result.id, "root_id": result.id, "parent_id": None, "group": None, "group_index": None, "retries": 0,
        "args": [1], "kwargs": {}, "called_directly": False, "priority": 5,
    }  # fmt: skip


def test_a_countdown_is_kept_in_the_record_and_not_in_the_broker():
    result = tasks.add.apply_async((1, 1), countdown=0.5)
    assert status_of(result).state == "scheduled"
    assert get(result) == 2


def test_an_expiry_in_the_past_is_a_task_that_never_runs():
    result = tasks.add.apply_async((1, 1), expires=-1)
    with pytest.raises(TaskRevokedError):
        get(result)
    assert status_of(result).state == "expired"


def test_an_eta_is_a_time_with_a_zone():
    result = tasks.add.apply_async((1, 1), eta=datetime.now(UTC) + timedelta(seconds=0.3))
    assert status_of(result).state == "scheduled"
    assert get(result) == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("countdown", 1e12), ("countdown", 10**18), ("countdown", 10**400), ("countdown", float("inf")),
        ("countdown", float("nan")), ("countdown", "soon"), ("eta", datetime(9999, 12, 31, tzinfo=UTC)),
        ("eta", "9999-12-31T00:00:00Z"), ("eta", datetime(9999, 12, 31)), ("eta", "soon"), ("eta", 5),  # noqa: DTZ001
        ("expires", 1e12),
        ("expires", "9999-12-31T00:00:00Z"), ("expires", datetime(9999, 12, 31)),  # noqa: DTZ001
    ],
)  # fmt: skip
def test_a_time_that_no_run_can_have_is_refused_by_its_name(option, value):
    with pytest.raises(InvalidOptionError, match=f"option {option} is not valid"):
        tasks.add.apply_async((1, 1), **{option: value})


def test_a_negative_countdown_runs_at_once():
    assert get(tasks.add.apply_async((1, 1), countdown=-5)) == 2


@pytest.mark.parametrize(
    "when", [{"countdown": 1e12}, {"countdown": 1e300}, {"eta": datetime(9999, 12, 31, tzinfo=UTC)}], ids=str
)
def test_a_retry_waits_a_hundred_years_at_most_and_can_be_cancelled(when):
    result = tasks.retry_at.delay(**when)
    wait_until(lambda: status_of(result).state == "retrying", 20, "it waits")
    assert status_of(result).run_at < datetime.now(UTC) + timedelta(days=36_526)
    result.revoke()
    assert status_of(result).state == "cancelled"


TYPED = [
    datetime(2026, 3, 1, 9, 30, tzinfo=UTC), date(2026, 3, 1), time(9, 30), Decimal("59.970"),
    UUID("12345678-1234-5678-1234-567812345678"), b"\x00\xff", b"abc", float("inf"),
]  # fmt: skip


@pytest.mark.parametrize("value", TYPED, ids=repr)
def test_an_argument_and_a_result_keep_their_types(value):
    found = get(tasks.give_back.delay(value, named=value))
    assert found == {"value": value, "types": [type(value).__name__] * 2}


def test_types_are_kept_along_a_chain_and_through_a_chord():
    given = chord([tasks.same.s(value) for value in TYPED])(tasks.same.s() | tasks.same.s())
    assert get(given) == TYPED


def test_types_are_kept_by_a_link(tmp_path):
    path = tmp_path / "linked"
    tasks.same.apply_async((1,), link=tasks.note_value.si(Decimal("1.50"), str(path)))
    assert lines(path, 1) == ["1.50"]


def test_the_record_shows_the_values_without_the_wrappers():
    result = tasks.same.delay(Decimal("1.10"))
    get(result)
    status = status_of(result)
    assert (status.payload, status.result) == ({"args": ["1.10"], "kwargs": {}}, "1.10")


def test_a_run_that_was_sent_before_types_were_kept_has_texts():
    result = tasks.give_back.apply_async(("2026-03-01",), countdown=3600)
    with autocommit() as connection:
        payload = '{"args": ["2026-03-01"], "kwargs": {"named": "59.970"}}'
        statement = "UPDATE cgk.runs SET sealed_payload = convert_to(%s, 'UTF8'), run_at = now() WHERE id = %s"
        connection.execute(statement, [payload, run_id_of(result.id)])
    assert get(result)["types"] == ["str", "str"]


def test_a_result_that_nobody_wants_is_none_at_once_and_not_kept():
    result = tasks.unwanted.delay()
    assert result.get(timeout=0) is None
    assert wait_closed(result.id).result is None


def test_one_call_can_say_that_it_wants_no_result():
    result = tasks.give_back.apply_async((1,), ignore_result=True)
    assert result.get(timeout=0) is None
    assert wait_closed(result.id).result is None
    assert get(AsyncResult(tasks.give_back.delay(1).id))["value"] == 1


def test_one_call_can_say_that_it_wants_the_result_after_all():
    assert get(tasks.numbered.apply_async((3,), ignore_result=False)) == 3


def test_a_retry_keeps_what_the_call_said_of_its_result():
    result = tasks.retry_until.apply_async((2, 5), ignore_result=True)
    status = wait_closed(result.id)
    assert (status.state, status.attempt, status.result) == ("completed", 2, None)


def test_a_result_that_nobody_wants_goes_on_along_a_chain_and_into_a_chord():
    assert get((tasks.numbered.s(3) | tasks.same.s()).delay()) == 3
    assert get(chord([tasks.numbered.s(1), tasks.numbered.s(2)])(tasks.total.s())) == 3


def test_a_result_of_no_json_is_no_failure_where_nobody_wants_it():
    assert wait_closed(tasks.unwanted.delay().id).state == "completed"


def test_a_result_that_is_too_large_is_left_out_and_the_run_completes(tmp_path):
    result = tasks.large_result.delay(300_000, str(tmp_path / "done"))
    with pytest.raises(ResultTooLargeError, match="300002 bytes"):
        get(result)
    status = status_of(result)
    assert (status.state, status.attempt, result.state) == ("completed", 1, "SUCCESS")
    assert "was not kept" in status.result
    assert lines(tmp_path / "done", 1) == ["300000"]


def test_a_result_of_another_task_comes_back_as_celerys_tuple():
    found = get(tasks.a_result.delay())
    assert result_from_tuple(found, app=tasks.app).id == "of another"


def test_a_group_result_comes_back_as_celerys_tuple():
    found = get(tasks.a_group_result.delay())
    assert [one.id for one in result_from_tuple(found, app=tasks.app).results] == ["1", "2"]


def test_a_revoked_task_is_cancelled_on_record_and_never_runs():
    result = tasks.add.apply_async((1, 2), countdown=3600)
    result.revoke()
    assert get_job_status(result.id).state == "cancelled"


def test_a_run_that_expires_before_it_starts_is_revoked():
    result = tasks.add.apply_async((1, 1), countdown=30, expires=0.1)
    with pytest.raises(TaskRevokedError):
        get(result)
    assert status_of(result).state == "expired"


def test_a_task_reads_the_priority_that_it_was_sent_with():
    """With Redis 7 is of the step of 6."""
    assert get(tasks.request_of.apply_async(priority=7))["priority"] == 7


def test_queue_and_priority_are_the_runs():
    result = tasks.add.apply_async((1, 1), queue="elsewhere", priority=9)
    status = status_of(result)
    assert (status.queue, status.priority, result.status) == ("elsewhere", 0, "PENDING")


def test_the_original_exception_comes_back():
    result = tasks.fail.delay("empty account")
    with pytest.raises(tasks.NotEnoughMoney, match="empty account"):
        get(result)
    assert (result.status, "raise NotEnoughMoney" in result.traceback) == ("FAILURE", True)


def test_an_exception_with_a_constructor_of_its_own_comes_back_as_its_class():
    with pytest.raises(tasks.Touchy, match="7: sore"):
        get(tasks.fail_touchily.delay())


def test_a_task_that_ends_its_process_does_not_end_the_one_that_waits_for_it():
    with pytest.raises(WorkerLostError, match="SystemExit: 3"):
        get(tasks.leave.delay())


def test_a_failure_is_not_retried_unless_the_task_says_so():
    result = tasks.fail.delay()
    get(result, propagate=False)
    assert status_of(result).attempt == 1


def test_retry_runs_the_same_run_again():
    result = tasks.retry_until.delay(3, 1, 2)
    assert get(result) == 3
    assert [error["type"] for error in status_of(result).errors] == ["NotEnoughMoney", "NotEnoughMoney"]


def test_retry_with_other_arguments_changes_the_run():
    result = tasks.count_down.delay(2, step=1)
    assert get(result) == 0
    assert status_of(result).payload == {"args": [0], "kwargs": {"step": 1}}


def test_a_retry_that_is_not_raised_happens_when_the_function_returns():
    result = tasks.retry_without_raising.delay()
    assert (get(result), status_of(result).attempt) == (1, 2)


def test_a_task_out_of_retries_fails():
    with pytest.raises(MaxRetriesExceededError):
        get(tasks.never.delay())


def test_autoretry_for_retries_the_exceptions_it_names(tmp_path):
    with pytest.raises(tasks.NotEnoughMoney):
        get(tasks.autoretried.delay(str(tmp_path / "tries")))
    assert len((tmp_path / "tries").read_text().splitlines()) == 3


def test_the_tasks_function_runs_in_its_tenants_context():
    assert get(tasks.whose.delay()) == ["acme"]


def test_a_task_sent_by_a_task_has_the_same_tenant():
    assert get(AsyncResult(get(tasks.whose_in_turn.delay()))) == ["acme"]


def test_a_task_sent_by_a_task_names_its_parent():
    outer = tasks.start.delay(tasks.request_of.s())
    told = get(AsyncResult(get(outer)))
    assert (told["parent_id"], told["root_id"]) == (outer.id, outer.id)


def test_the_tenant_can_be_named_in_the_headers(monkeypatch):
    from cgk_tasks.tenancy.context import _tenant

    token = _tenant.set(None)
    try:
        assert get(tasks.whose.apply_async(headers={"tenant": "globex"})) == ["globex"]
    finally:
        _tenant.reset(token)


def test_without_a_tenant_nothing_is_sent():
    from cgk_tasks.tenancy import platform_context

    with platform_context(), pytest.raises(TenantMissingError, match="add"):
        tasks.add.delay(1, 2)


def test_an_unknown_tenant_is_refused():
    with platform_context(), pytest.raises(UnknownTenantError):
        tasks.add.apply_async((1, 2), headers={"tenant": "acne"})


def test_another_tenant_than_the_contexts_is_refused():
    with pytest.raises(TenantContextError):
        tasks.add.apply_async((1, 2), headers={"tenant": "globex"})


def test_arguments_are_checked_when_sending():
    with pytest.raises(TypeError):
        tasks.add.delay(1)


def test_hooks_and_signals_of_a_run_that_completes(tmp_path):
    get(tasks.with_hooks.delay(str(tmp_path / "f"), "ok"))
    assert lines(tmp_path / "f", 6) == [
        "task_prerun", "run", "on_success ok acme", "task_success", "after_return SUCCESS", "task_postrun SUCCESS",
    ]  # fmt: skip


def test_hooks_and_signals_of_a_run_that_fails(tmp_path):
    get(tasks.with_hooks.delay(str(tmp_path / "f"), "fail"), propagate=False)
    assert lines(tmp_path / "f", 6) == [
        "task_prerun", "run", "on_failure fail ExceptionInfo", "task_failure", "after_return FAILURE",
        "task_postrun FAILURE",
    ]  # fmt: skip


def test_hooks_and_signals_of_a_run_that_is_retried(tmp_path):
    get(tasks.with_hooks.delay(str(tmp_path / "f"), "retry"))
    seen = lines(tmp_path / "f", 11)
    assert seen[:2] == ["task_prerun", "run"]
    # What follows the first attempt may come while another process is already at the second.
    of_the_first = ("on_retry", "task_retry", "task_postrun RETRY")
    assert [line for line in seen if line in of_the_first] == list(of_the_first)


def test_a_replaced_task_goes_on_as_its_replacement():
    result = tasks.replaced_by_task.delay(1)
    assert get(result) == 11
    assert status_of(result).event == tasks.add.name


def test_a_task_replaced_by_a_chain_has_the_chains_result():
    assert get(tasks.replaced_by_chain.delay(1)) == 111


def test_a_task_replaced_by_a_group_has_the_groups_results():
    assert get(tasks.replaced_by_group.delay(1)) == [2, 3]


def test_a_task_that_opts_out_runs_for_its_tenant_and_leaves_no_record(tmp_path):
    path = str(tmp_path / "effect")
    sent = get(tasks.start.delay(tasks.fleeting.s(1, path)))
    assert lines(path, 1) == ["1 acme"]
    assert AsyncResult(sent).status == "PENDING"
