"""Workflows that begin again: as a new run of themselves, and from a step of an earlier run."""

import os

import pytest

from cgk_tasks.client.local import LocalProvider
from cgk_tasks.config import use_settings
from cgk_tasks.errors import InvalidOptionError, PermanentError, RunStateError
from cgk_tasks.events import TenantEvent
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.workflows.define import define_workflow
from tests.support.waiting import wait_until


class Tick(TenantEvent, event="unit.tick"):
    count: int = 0


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    yield
    remove_job("unit-tick")
    use_settings(None)


@pytest.fixture
def local():
    provider = LocalProvider()
    yield provider
    provider.close()


@pytest.fixture
def begin(local):
    def begin(function, **options):
        define_workflow("unit-tick", event=Tick, **options)(function)
        return local.send(Tick(tenant_id="acme"), SendOptions()).id

    return begin


@pytest.fixture
def closed(local):
    return lambda run_id: wait_until(lambda: run if (run := local.get_run_status(run_id)).is_closed else None)


@pytest.fixture
def done():
    return []


@pytest.fixture
def did(done):
    def did(what):
        done.append(what)
        return what

    return did


def last_of(closed, run_id):
    """The run at the end of those that have continued one another, and how many there were."""
    number, run = 1, closed(run_id)
    while isinstance(run.result, dict) and "continuedAs" in run.result:
        number, run = number + 1, closed(run.result["continuedAs"])
    return number, run


def test_a_workflow_continues_as_a_new_run_with_another_payload(begin, closed):
    def tick(wf):
        if wf.payload.count < 50:
            wf.continue_as_new({"count": wf.payload.count + 1})
        return wf.payload.count

    number, run = last_of(closed, begin(tick))
    assert (number, run.result, run.payload) == (51, 50, {"tenantId": "acme", "count": 50})


def test_a_coroutine_continues_as_a_new_run(begin, closed):
    async def tick(wf):
        if not wf.payload.count:
            await wf.continue_as_new(Tick(tenant_id="acme", count=7))
        return wf.payload.count

    assert last_of(closed, begin(tick))[1].result == 7


def test_signals_that_were_not_taken_go_on_with_it(begin, closed, local):
    def tick(wf):
        if wf.payload.count:
            return wf.wait_for_signal("go")
        wf.wait_for_signal("begin")
        return wf.continue_as_new({"count": 1})

    run_id = begin(tick)
    local.signal(run_id, "go", '"first"')
    local.signal(run_id, "begin", "1")
    assert last_of(closed, run_id)[1].result == "first"


def test_a_workflow_does_not_continue_for_another_tenant(begin, closed):
    run = closed(begin(lambda wf: wf.continue_as_new(Tick(tenant_id="globex")), retry=None))
    assert (run.state, run.error["type"]) == ("failed", "TenantContextError")


def test_steps_before_that_one_are_not_done_again(begin, closed, local, did, done):
    def tick(wf):
        for what in ("one", "two", "three"):
            wf.step(what, did, what)
        return len(done)

    first = closed(begin(tick))
    again = closed(local.replay_from(first.id, "two").id)
    assert (done, again.result, again.replay_of) == (["one", "two", "three", "two", "three"], 5, first.id)


def test_a_step_that_failed_is_done_again_from_there(begin, closed, local, did, done):
    def shaky():
        if did("shaky") and done.count("shaky") == 1:
            raise PermanentError("not yet", "NOT_YET")

    def tick(wf):
        wf.step("one", did, "one")
        wf.step("shaky", shaky)

    first = closed(begin(tick))
    assert (first.error_code, closed(local.replay_from(first.id, "shaky").id).state) == ("NOT_YET", "completed")
    assert done == ["one", "shaky", "shaky"]


def test_what_undoes_a_run_goes_on_from_where_it_failed(begin, closed, local, did, done):
    def shaky():
        if did("shaky") and done.count("shaky") == 1:
            raise PermanentError("not yet", "NOT_YET")

    def tick(wf):
        wf.compensate("first", did, "first undone")
        wf.compensate("shaky", shaky)
        wf.compensate("last", did, "last undone")
        raise PermanentError("over", "OVER")

    first = closed(begin(tick))
    again = closed(local.replay_from(first.id, "shaky").id)
    assert (first.error_code, again.error_code, done) == (
        "COMPENSATION_FAILED", "OVER", ["last undone", "shaky", "shaky", "first undone"]
    )  # fmt: skip


def test_a_step_that_was_not_done_is_refused(begin, closed, local, did):
    first = closed(begin(lambda wf: wf.step("one", did, "one")))
    with pytest.raises(InvalidOptionError, match="It has one"):
        local.replay_from(first.id, "two")


def test_an_open_run_is_not_replayed(begin, local):
    run_id = begin(lambda wf: wf.sleep("night", 3600))
    wait_until(lambda: local.get_run_status(run_id).state == "scheduled")
    with pytest.raises(RunStateError):
        local.replay_from(run_id, "night")
