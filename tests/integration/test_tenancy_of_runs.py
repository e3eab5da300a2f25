"""Inside a tenant's context the runs of others are unknown, to every function that takes a run's id."""

import asyncio
import inspect

import pytest
from celery.app.control import Control
from celery.result import AsyncResult, GroupResult

import cgk_tasks
from cgk_tasks import JobClient, app, cancel_run, get_job_client, get_run, platform_context, send_job, tenant_context
from cgk_tasks.celery_tasks import control
from cgk_tasks.celery_tasks.result_backend import RunResultBackend
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.flow import replay
from cgk_tasks.monitoring import why
from cgk_tasks.runs import log_writing, logs, store
from cgk_tasks.tenancy.platform import ensure_platform_tenant
from tests.support.jobs import Behave

pytestmark = pytest.mark.usefixtures("database")

NOBODY = "0199a4d2-0000-7000-8000-000000000000"

PLACES = (cgk_tasks, JobClient, store, logs, replay, why, control)
"""Where functions take a run's id."""

FOR_THE_FRAMEWORK = {
    "store.record_of",
    "store.require_unlocked",
    "client.JobClient.register_handler",
    "closing_days.closing_days",
}
"""It looks at runs of all tenants, or at none, and gives none of them to whoever asks."""


def taking_an_id(place, names, parameter="run_id"):
    for name in names:
        value = getattr(place, name)
        if inspect.isfunction(value) and parameter in inspect.signature(value).parameters:
            yield name, value


def looks():
    """Each function that takes a run's id, by its name, as one that takes nothing else."""
    found = {}
    for place in PLACES:
        for name, look in taking_an_id(place, getattr(place, "__all__", None) or vars(place)):
            if name.startswith("_") or look.__module__ == "contextlib":
                continue
            where = f"{look.__module__.rpartition('.')[2]}.{look.__qualname__}"
            found[where] = look
    return {where: look for where, look in found.items() if where not in FOR_THE_FRAMEWORK}


def call(look, run_id):
    parameters = inspect.signature(look).parameters
    given = {"run_id": run_id}
    if "app" in parameters:
        given["app"] = app
    if "self" in parameters:
        given["self"] = get_job_client()
    if "name" in parameters:  # of a signal
        given["name"] = "decision"
    answer = look(**given)
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


@pytest.fixture
def open_run():
    return send_job(Behave(tenant_id="acme", action="echo")).id


@pytest.fixture
def closed_run():
    run_id = send_job(Behave(tenant_id="acme", action="echo")).id
    cancel_run(run_id)
    run_log = logs.RunLog(run_id, "acme", 1, None)
    run_log.lines = ['{"at": "2026-01-01T00:00:00+00:00", "level": "info", "logger": "x", "message": "a secret"}']
    log_writing.write([run_log], [])
    return run_id


def test_the_functions_that_take_a_runs_id_are_found():
    assert {"api.get_run", "api.aretry_job", "client.JobClient.cancel", "logs.lines", "why.why", "store.find"} <= set(
        looks()
    )


@pytest.mark.parametrize("where", sorted(looks()))
@pytest.mark.parametrize("state", ["open_run", "closed_run"])
def test_a_run_of_another_tenant_is_unknown(where, state, request):
    run_id = request.getfixturevalue(state)
    before = get_run(run_id)
    with tenant_context("globex"):
        try:
            answer = call(looks()[where], run_id)
        except UnknownRunError:
            answer = None
    assert (answer in (None, []), get_run(run_id)) == (True, before)


def test_a_tenant_sees_and_changes_its_own_runs(open_run):
    with tenant_context("acme"):
        assert cancel_run(open_run).state == "cancelled"
        assert cgk_tasks.replay_run(open_run).id


def test_a_tenant_reads_what_its_own_runs_logged(closed_run):
    with tenant_context("acme"):
        assert [line.message for line in logs.lines(closed_run)] == ["a secret"]


def test_the_platform_sees_the_runs_of_all(open_run):
    ensure_platform_tenant()
    with tenant_context("platform"):
        assert get_run(open_run).tenant_id == "acme"


def test_platform_context_sees_the_runs_of_all_inside_a_tenants_context(open_run):
    with tenant_context("globex"), platform_context():
        assert get_run(open_run).tenant_id == "acme"


# Celery's side

READERS = {
    "get_state",
    "get_status",
    "is_cached",
    "task_result_exists",
    "get_result",
    "get_traceback",
    "get_children",
    "get_task_meta",
    "wait_for",
    "end_told",
}
WRITERS = {
    "mark_as_started", "mark_as_done", "mark_as_failure", "mark_as_revoked", "mark_as_retry", "store_result", "forget",
    "fail_from_current_stack", "on_task_call", "reload_task_result", "add_pending_result", "on_result_fulfilled",
}  # fmt: skip
"""They store nothing, or read nothing."""


def test_the_result_backends_methods_that_take_an_id_are_known():
    names = [name for name in dir(RunResultBackend) if not name.startswith("_")]
    found = {name for name, _method in taking_an_id(RunResultBackend, names, "task_id")}
    assert found - WRITERS <= READERS


@pytest.mark.parametrize("reader", sorted(READERS - {"wait_for"}))
def test_celerys_result_backend_knows_no_run_of_another_tenant(reader, closed_run):
    read = getattr(app.backend, reader)
    told = read(closed_run)
    with tenant_context("globex"):
        answer, of_nobody = read(closed_run), read(NOBODY)
    of_nobody = of_nobody | {"task_id": closed_run} if reader == "get_task_meta" else of_nobody
    assert (told != answer or told in (None, [], False), answer) == (True, of_nobody)


def test_an_async_result_of_another_tenants_run_is_pending(closed_run):
    assert AsyncResult(closed_run, app=app).state == "REVOKED"
    with tenant_context("globex"):
        assert AsyncResult(closed_run, app=app).state == "PENDING"


def test_the_controls_that_take_an_id_are_known():
    names = [name for name in dir(Control) if not name.startswith("_")]
    assert {name for name, _method in taking_an_id(Control, names, "task_id")} == {"revoke", "terminate"}


@pytest.mark.parametrize("action", ["revoke", "terminate"])
def test_celerys_control_leaves_another_tenants_run_alone(action, open_run):
    with tenant_context("globex"):
        getattr(app.control, action)(open_run)
    assert get_run(open_run).state == "pending"


def test_an_async_result_does_not_revoke_another_tenants_run(open_run):
    with tenant_context("globex"):
        AsyncResult(open_run, app=app).revoke()
    assert get_run(open_run).state == "pending"


def test_celerys_control_revokes_a_tenants_own_run(open_run):
    with tenant_context("acme"):
        app.control.revoke(open_run)
    assert get_run(open_run).state == "cancelled"


# Groups


@pytest.fixture
def saved_group(open_run):
    group = GroupResult(f"group-{open_run}", [AsyncResult(open_run, app=app)], app=app)
    group.save()
    GroupResult.restore(group.id, app=app)  # and keeps nothing of it for others
    return group


def test_a_group_of_another_tenant_is_unknown(saved_group):
    with tenant_context("globex"):
        assert GroupResult.restore(saved_group.id, app=app) is None


def test_a_group_of_another_tenant_is_not_deleted(saved_group):
    with tenant_context("globex"):
        GroupResult(saved_group.id, [], app=app).delete()
    with tenant_context("acme"):
        assert len(GroupResult.restore(saved_group.id, app=app).results) == 1


def test_a_tenant_deletes_its_own_group(saved_group):
    with tenant_context("acme"):
        GroupResult(saved_group.id, [], app=app).delete()
        assert GroupResult.restore(saved_group.id, app=app) is None
