"""Workflows that invoke other runs, with the local provider: results, failures, timeouts and cancelling."""

import asyncio
import os
import threading

import pytest

from cgk_tasks import JobContext, define_job
from cgk_tasks.client.local import LocalProvider
from cgk_tasks.config import use_settings
from cgk_tasks.errors import (
    ChildCancelledError,
    ChildFailedError,
    ChildTimeoutError,
    ConfigurationError,
    InvalidOptionError,
    PermanentError,
    StepFailedError,
)
from cgk_tasks.events import TenantEvent
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.workflows.children import child_id
from cgk_tasks.workflows.define import define_workflow
from tests.support.legs import Legs
from tests.support.waiting import wait_until


class Fair(TenantEvent, event="unit.fair"):
    """Invokes stalls."""


class Stall(TenantEvent, event="unit.stall"):
    number: int = 0
    fails: bool = False


class Nobody(TenantEvent, event="unit.nobody"):
    """No job is for it."""


class Shared(TenantEvent, event="unit.shared"):
    """Two jobs are for it."""


class Fleeting(TenantEvent, event="unit.fleeting", durable=False):
    pass


GATE = threading.Event()
SERVED: list[int] = []


def stall(ctx: JobContext[Stall]) -> int:
    if ctx.payload.number < 0:
        assert GATE.wait(20)
    SERVED.append(ctx.payload.number)
    if ctx.payload.fails:
        raise PermanentError("sold out", "SOLD_OUT")
    return ctx.payload.number * 10


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    GATE.clear()
    SERVED.clear()
    yield
    use_settings(None)


@pytest.fixture(autouse=True)
def jobs():
    define_job("unit-stall", event=Stall)(stall)
    define_job("unit-left", event=Shared)(lambda ctx: "left")
    define_job("unit-right", event=Shared)(lambda ctx: "right")
    yield
    for name in ("unit-fair", "unit-stall", "unit-left", "unit-right"):
        remove_job(name)


@pytest.fixture
def local():
    provider = LocalProvider()
    yield provider
    GATE.set()
    provider.close()


@pytest.fixture
def hold(local):
    """Runs a workflow of this function; returns its run when it has ended."""

    def hold(function):
        return closed(local, begun(local, function))

    return hold


def begun(local, function):
    define_workflow("unit-fair", event=Fair)(function)
    return local.send(Fair(tenant_id="acme"), SendOptions()).id


def closed(local, run_id):
    return wait_until(lambda: status if (status := local.get_run_status(run_id)).is_closed else None)


def stalls(wf, *failing, number=3):
    return [wf.child(Stall(tenant_id="acme", number=one, fails=one in failing)) for one in range(number)]


def test_a_child_runs_and_its_result_is_the_steps(hold):
    run = hold(lambda wf: wf.invoke("one", "unit.stall", {"number": 4}))
    assert (run.result, run.attempt, SERVED) == (40, 2, [4])


def test_a_child_of_an_event_with_several_jobs_has_the_results_of_all(hold):
    assert hold(lambda wf: wf.invoke("both", Shared(tenant_id="acme"))).result == {
        "unit-left": "left",
        "unit-right": "right",
    }


def test_gathered_children_run_and_their_results_are_in_order(hold):
    run = hold(lambda wf: wf.gather("all", stalls(wf)))
    assert (run.result, run.attempt, sorted(SERVED)) == ([0, 10, 20], 2, [0, 1, 2])


def test_nothing_is_gathered_of_no_children(hold):
    assert hold(lambda wf: wf.gather("all", [])).result == []


def test_a_child_that_fails_is_an_error_with_its_code(hold):
    def fair(wf):
        try:
            wf.invoke("one", "unit.stall", {"fails": True})
        except ChildFailedError as error:
            return [error.step, error.code, error.message, error.run_id == child_id(wf.run_id, "one", 1, 0)]

    assert hold(fair).result == ["one", "SOLD_OUT", "sold out", True]


def test_a_workflow_that_does_not_catch_it_fails_with_the_childs_code(hold):
    run = hold(lambda wf: wf.invoke("one", "unit.stall", {"fails": True}))
    assert (run.state, run.error_code, len(run.errors)) == ("failed", "SOLD_OUT", 1)


def test_a_child_that_nobody_executes_is_a_failure(hold):
    assert hold(lambda wf: wf.invoke("one", "unit.nobody")).error_code == "NO_JOB"


def test_a_child_that_expires_is_a_failure(hold):
    assert hold(lambda wf: wf.invoke("one", "unit.stall", delay=60, expires=0.05)).error_code == "EXPIRED"


def test_the_first_failure_ends_the_wait_and_cancels_the_others(local):
    def fair(wf):
        children = [wf.child("unit.stall", {"number": -1}), wf.child("unit.stall", {"fails": True})]
        late = wf.child("unit.stall", delay=60)
        wf.gather("all", [*children, late])

    run = closed(local, run_id := begun(local, fair))
    ids = [child_id(run_id, "all", 1, number) for number in range(3)]
    assert (run.error_code, local.get_run_status(ids[2]).state) == ("SOLD_OUT", "cancelled")
    GATE.set()
    assert closed(local, ids[0]).state == "cancelled"


def test_a_failure_is_raised_when_all_have_ended_where_that_is_asked_for(hold):
    run = hold(lambda wf: wf.gather("all", stalls(wf, 1), on_failure="wait"))
    assert (run.error_code, sorted(SERVED)) == ("SOLD_OUT", [0, 1, 2])


def test_failures_stand_among_the_results_where_that_is_asked_for(hold):
    def fair(wf):
        ends = wf.gather("all", stalls(wf, 1), on_failure="continue")
        return [end.code if isinstance(end, ChildFailedError) else end for end in ends]

    assert hold(fair).result == [0, "SOLD_OUT", 20]


def test_a_child_that_does_not_end_in_time_is_cancelled_and_is_an_error_of_its_own(local):
    def fair(wf):
        try:
            return wf.invoke("one", "unit.stall", delay=60, timeout=0.05)
        except ChildTimeoutError as error:
            return [error.code, error.run_id, error.step]

    run = closed(local, run_id := begun(local, fair))
    only = child_id(run_id, "one", 1, 0)
    assert (run.result, local.get_run_status(only).state) == (["CHILD_TIMED_OUT", only, "one"], "cancelled")


def test_a_child_that_returns_none_has_not_timed_out(local):
    for name in ("unit-left", "unit-right"):
        remove_job(name)
    define_job("unit-left", event=Shared)(lambda ctx: None)
    assert closed(local, begun(local, lambda wf: [wf.invoke("one", Shared(tenant_id="acme"), timeout=20)])).result == [
        None
    ]


@pytest.mark.parametrize("undoes", [False, True])
def test_a_workflow_that_fails_takes_its_open_children_with_it(local, undoes):
    """One of its branches fails while another one waits for a child."""

    async def fair(wf):
        if undoes:
            await wf.compensate("undo", SERVED.append, 7)
        await asyncio.gather(wf.invoke("late", "unit.stall", delay=60), wf.invoke("one", "unit.stall", {"fails": True}))

    run = closed(local, run_id := begun(local, fair))
    assert (run.state, run.error_code) == ("failed", "SOLD_OUT")
    assert local.get_run_status(child_id(run_id, "late", 1, 0)).state == "cancelled"
    assert [0, *[7] * undoes] == SERVED


def test_a_workflow_that_completes_leaves_its_open_children_on(local):
    async def fair(wf):
        late = asyncio.ensure_future(wf.invoke("late", "unit.stall", delay=60))
        one = await wf.invoke("one", "unit.stall", {"number": 1})
        late.cancel()
        return one

    run = closed(local, run_id := begun(local, fair))
    late = local.get_run_status(child_id(run_id, "late", 1, 0))
    assert (run.state, run.result, late.state) == ("completed", 10, "scheduled")


def test_a_child_that_is_cancelled_is_an_error_of_its_own(local):
    def fair(wf):
        try:
            wf.invoke("one", "unit.stall", delay=60)
        except ChildCancelledError as error:
            return error.code

    run_id = begun(local, fair)
    wait_until(lambda: local.get_run_status(run_id).state == "scheduled")
    local.cancel(child_id(run_id, "one", 1, 0))
    assert closed(local, run_id).result == "CHILD_CANCELLED"


def test_a_cancelled_workflow_takes_its_children_with_it(local):
    run_id = begun(local, lambda wf: wf.gather("all", [wf.child("unit.stall", delay=60) for _ in range(2)]))
    wait_until(lambda: local.get_run_status(run_id).state == "scheduled")
    local.cancel(run_id)
    states = [local.get_run_status(child_id(run_id, "all", 1, number)).state for number in range(2)]
    assert states == ["cancelled", "cancelled"]


def test_a_coroutine_waits_for_its_children_beside_its_steps(hold):
    async def fair(wf):
        return await asyncio.gather(
            wf.invoke("one", "unit.stall", {"number": 1}), wf.gather("all", stalls(wf)), wf.step("own", lambda: "own")
        )

    assert hold(fair).result == [10, [0, 10, 20], "own"]


def test_an_error_says_which_child_of_which_step_it_is_about():
    error = ChildFailedError("one", "run-1", "SOLD_OUT", "sold out")
    assert (str(error), isinstance(error, StepFailedError)) == (
        "Child run run-1 of step 'one' ended with SOLD_OUT: sold out.", True
    )  # fmt: skip


# What cannot be invoked


def outcome_of(function):
    define_workflow("unit-fair", event=Fair)(function)
    return Legs("unit-fair", Fair(tenant_id="acme")).leg().exception


def test_what_leaves_no_record_cannot_be_invoked():
    assert "durable=False" in str(outcome_of(lambda wf: wf.invoke("one", "unit.fleeting")))


def test_a_child_takes_no_idempotency_key():
    error = outcome_of(lambda wf: wf.invoke("one", "unit.stall", idempotency_key="k"))
    assert isinstance(error, InvalidOptionError)


def test_there_are_three_policies():
    error = outcome_of(lambda wf: wf.gather("all", [], on_failure="ignore"))
    assert isinstance(error, ConfigurationError)


def test_a_child_is_of_the_tenant_of_its_parent():
    error = outcome_of(lambda wf: wf.invoke("one", Stall(tenant_id="globex")))
    assert type(error).__name__ == "TenantContextError"
