"""Tasks of Django run in worker processes: results, errors, attempts, signals, the tenant."""

import pytest

from cgk_tasks import AtOnce, get_run, platform_context, remove_limit, set_limit
from tests.support.waiting import wait_closed


@pytest.fixture(scope="module")
def signals_file(tmp_path_factory):
    return tmp_path_factory.mktemp("signals") / "signals.txt"


@pytest.fixture(scope="module")
def worker(tasks, start_worker, signals_file):
    """A worker of the project, which has no Celery app of its own."""
    return start_worker(
        DJANGO_SETTINGS_MODULE="tests.django_backend.settings", NOTE_SIGNALS_IN=str(signals_file),
    )  # fmt: skip


pytestmark = pytest.mark.usefixtures("worker", "acme")


def ended(result):
    """The result, once its run has ended."""
    wait_closed(result.id, 40)
    result.refresh()
    return result


@pytest.mark.parametrize(
    ("name", "args", "value"),
    [("answer", [], 42), ("echo_async", [{"a": [1, None]}], {"a": [1, None]}), ("nothing", [1], None)],
)
def test_a_task_ends_with_what_it_returns(tasks, name, args, value):
    result = ended(getattr(tasks, name).enqueue(*args))
    assert (result.status.name, result.is_finished, result.return_value) == ("SUCCESSFUL", True, value)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert (result.last_attempted_at, result.attempts, result.errors) == (result.started_at, 1, [])
    assert result.worker_ids == [get_run(result.id).worker_id]


def test_a_task_that_raises_is_tried_again_and_has_an_error_of_each_attempt(tasks):
    result = ended(tasks.fail.enqueue("the message"))
    assert (result.status.name, result.attempts) == ("FAILED", 2)
    assert [error.exception_class for error in result.errors] == [ValueError, ValueError]
    assert all(error.traceback.endswith("ValueError: the message\n") for error in result.errors)
    assert result.started_at < result.last_attempted_at < result.finished_at
    with pytest.raises(ValueError, match="failed"):
        result.return_value  # noqa: B018


def test_an_error_that_is_for_good_ends_it_at_once(tasks):
    from cgk_tasks import PermanentError

    result = ended(tasks.fail_for_good.enqueue())
    assert (result.attempts, [error.exception_class for error in result.errors]) == (1, [PermanentError])


def test_a_task_that_exits_has_failed_and_its_process_lives(tasks):
    result = ended(tasks.leave.using().enqueue())
    assert (result.status.name, {error.exception_class for error in result.errors}) == ("FAILED", {SystemExit})


def test_a_value_that_json_cannot_say_is_a_failure_that_is_not_repeated(tasks):
    result = ended(tasks.return_what_json_cannot_say.enqueue())
    assert (result.status.name, result.attempts) == ("FAILED", 1)
    assert result.errors[0].exception_class is TypeError
    assert "Unsupported type" in result.errors[0].traceback


def test_a_task_that_takes_the_context_knows_its_id_and_attempt(tasks):
    result = ended(tasks.own_id_at_the_second_attempt.enqueue())
    assert result.return_value == [result.id, 2]


def test_a_task_runs_for_its_tenant_and_what_it_enqueues_is_that_tenants(tasks):
    from cgk_tasks.django.results import UNKNOWN

    first = ended(tasks.enqueue_another.enqueue())
    second = ended(tasks.tenant_here.get_result(first.return_value))
    assert second.return_value == "acme"
    assert UNKNOWN not in second.worker_ids


def test_the_function_of_the_option_tenant_decides(tasks):
    with platform_context():
        assert ended(tasks.of_resolved_tenant.enqueue(tenant="globex")).return_value == "globex"


def test_a_task_finds_what_the_transaction_wrote_that_enqueued_it(tasks):
    from django.contrib.auth.models import Group
    from django.db import transaction

    with transaction.atomic():
        group = Group.objects.create(name="written with the task")
        result = tasks.name_of_group.enqueue(group.pk)
    assert ended(result).return_value == "written with the task"


def test_a_task_whose_process_is_killed_is_run_again(tasks, tmp_path):
    result = ended(tasks.die_once.enqueue(str(tmp_path / "died")))
    assert result.return_value == "lived"


def test_each_attempt_is_told_when_it_starts_and_the_task_once_when_it_has_ended(tasks, signals_file):
    failed, done = ended(tasks.fail.enqueue("x")), ended(tasks.answer.enqueue())
    told = {}
    for line in signals_file.read_text().splitlines():
        result_id, said = line.split(" ", 1)
        told.setdefault(result_id, []).append(said)
    assert told[done.id] == [
        "TasksBackend started answer RUNNING 1 0",
        "TasksBackend finished answer SUCCESSFUL 1 0",
    ]
    assert told[failed.id] == [
        "TasksBackend started fail RUNNING 1 0",
        "TasksBackend started fail RUNNING 2 0",
        "TasksBackend finished fail FAILED 2 1",
    ]


def test_all_tasks_together_can_be_limited(tasks):
    with platform_context():
        set_limit("django-task", AtOnce(1), tenant="acme")
    try:
        assert ended(tasks.answer.enqueue()).return_value == 42
    finally:
        with platform_context():
            remove_limit("django-task", tenant="acme")


def test_the_worker_logs_it_as_django_does(tasks, worker):
    result = ended(tasks.answer.enqueue())
    assert f"Task id={result.id} path=tests.django_backend.tasks.answer state=SUCCESSFUL" in worker.log
