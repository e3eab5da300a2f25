"""`inspect` shows runs: a tenant's code its own with their arguments, operators all of them without."""

from uuid import uuid4

import pytest

import cgk_tasks
from cgk_tasks.tenancy import platform_context, tenant_context
from tests.integration import revoked_tasks as tasks
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.integration.revoked_tasks"])


@pytest.fixture(scope="module")
def app(worker):
    """The app at the broker of the settings, which this process had not when it was made."""
    from cgk_tasks.celery_app import create_app, follow_settings

    cgk_tasks.app.routing.current()  # it has its own settings now; those of the package are read anew for another one
    made = create_app("inspecting")
    cgk_tasks.app.set_current()
    follow_settings(made)
    yield made
    made.close()


@pytest.fixture
def inspected(app, worker):
    """What a command shows of this worker."""

    def ask(command, *arguments):
        replies = getattr(app.control.inspect(timeout=5, destination=[worker.name], limit=1), command)(*arguments)
        return replies[worker.name]

    return ask


@pytest.fixture
def running(worker, tmp_path):
    with tenant_context("acme"):
        result = tasks.runs_until_told.delay(str(tmp_path))
    wait_until((tmp_path / "runs").exists, what="the task runs")
    yield result
    (tmp_path / "end").touch()


def of(entries, result):
    return next((entry for entry in entries if entry["id"] == result.id), None)


def test_a_tenants_code_sees_its_running_task_with_its_arguments(inspected, running, tmp_path):
    with tenant_context("acme"):
        entry = of(inspected("active"), running)
    assert (entry["name"], entry["args"], entry["acknowledged"]) == (tasks.runs_until_told.name, [str(tmp_path)], True)


def test_an_operator_sees_it_without_its_arguments(inspected, running, tmp_path):
    entry = of(inspected("active"), running)
    assert entry["args"] == "(tenant=acme)"
    assert str(tmp_path) not in str(entry)


def test_another_tenants_code_sees_nothing_of_it(inspected, running):
    with tenant_context("globex"):
        assert inspected("active") == []
        assert inspected("query_task", running.id) == {}


def test_what_waits_for_its_time_is_scheduled(inspected):
    with tenant_context("acme"):
        later = tasks.add.apply_async((1, 2), countdown=600)
        (entry,) = [one for one in inspected("scheduled") if one["request"]["id"] == later.id]
    assert (entry["request"]["args"], entry["request"]["time_start"]) == ([1, 2], None)


def test_a_task_can_be_asked_for_by_its_id(inspected, running):
    with tenant_context("acme"):
        later = tasks.add.apply_async((1, 2), countdown=600)
        found = inspected("query_task", running.id, later.id, str(uuid4()))
    assert {task_id: state for task_id, (state, _info) in found.items()} == {
        running.id: "active",
        later.id: "scheduled",
    }


def test_what_was_revoked_is_listed_for_its_tenant_alone(inspected, app):
    early = str(uuid4())
    with tenant_context("acme"):
        waits = tasks.add.apply_async((1, 2), countdown=600)
        waits.revoke()
        app.control.revoke(early)
        assert {waits.id, early} <= set(inspected("revoked"))
    with platform_context(), tenant_context("globex"):
        assert not {waits.id, early} & set(inspected("revoked"))
