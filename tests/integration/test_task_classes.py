"""Classes of tasks that were written for plain Celery make durable runs of a tenant, like any other task."""

import pytest

from cgk_tasks import get_run
from cgk_tasks.runs.models import run_id_of
from tests.integration import class_tasks as tasks
from tests.support.waiting import get, wait_until

pytestmark = pytest.mark.usefixtures("acme")


@pytest.mark.parametrize("task", [tasks.tidy, tasks.shared_tidy, tasks.greet, tasks.greet_by_class, tasks.in_web])
def test_a_run_is_on_record(task):
    result = task.delay(*[] if task is tasks.in_web else [" a "])
    get(result)
    run = get_run(run_id_of(result.id))
    assert (run.state, run.tenant_id, run.event) == ("completed", "acme", task.name)


def test_the_base_classes_methods_and_hooks_work():
    assert get(tasks.tidy.delay("  a ")) == "a of acme, prepared for '  a '"


def test_a_shared_task_has_its_base_class():
    assert get(tasks.shared_tidy.delay("  a ")) == "a"


@pytest.mark.parametrize("task", [tasks.greet, tasks.greet_by_class])
def test_a_registered_class_runs(task):
    assert get(task.delay("Ada", loudly=True)) == "Ada!"


@pytest.mark.parametrize("task", [tasks.in_web, tasks.wrapped, tasks.of_the_apps_class])
def test_what_the_class_has_around_a_call_is_around_each_run(task):
    assert get(task.delay()) == ["shop", "acme"]


def test_it_is_around_a_task_without_a_record_as_well(tmp_path):
    noted = tmp_path / "noted"
    tasks.send_telemetry.delay(str(noted))
    wait_until(lambda: noted.exists() and noted.read_text() == "shop acme")


def test_a_task_with_something_around_its_call_is_retried():
    assert get(tasks.retrying.delay()) == 2


def test_it_is_around_a_run_here_and_now_as_well():
    assert tasks.in_web.apply().get() == ["shop", "acme"]
    assert tasks.in_web() == ["shop", "acme"]


def test_a_task_is_still_an_object_of_its_own_class():
    assert isinstance(tasks.greet, tasks.Greet)
    assert isinstance(tasks.tidy, tasks.Tidy)
