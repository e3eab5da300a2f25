"""Compensation, leg by leg: the last first, once each, after a failure for good and after a cancel."""

import asyncio
import os

import pytest

from cgk_tasks.client.local import LocalProvider
from cgk_tasks.config import use_settings
from cgk_tasks.errors import PermanentError, TransientError
from cgk_tasks.events import TenantEvent
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.workflows.define import define_workflow
from tests.support.waiting import wait_until

QUICK = RetryConfig(max_attempts=3, initial_delay=0.01, jitter=False, backoff="fixed")


class Stay(TenantEvent, event="unit.stay"):
    """A journey with bookings that may have to be undone."""


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    yield
    remove_job("unit-stay")
    use_settings(None)


@pytest.fixture
def done():
    return []


@pytest.fixture
def did(done):
    """A function for steps: notes that it was called."""

    def did(what):
        done.append(what)
        return what

    return did


@pytest.fixture
def local():
    provider = LocalProvider()
    yield provider
    provider.close()


@pytest.fixture
def begin(local):
    def begin(function):
        define_workflow("unit-stay", event=Stay, retry=QUICK)(function)
        return local.send(Stay(tenant_id="acme"), SendOptions()).id

    return begin


@pytest.fixture
def closed(local):
    return lambda run_id: wait_until(lambda: run if (run := local.get_run_status(run_id)).is_closed else None)


@pytest.fixture
def waits(local):
    return lambda run_id: wait_until(lambda: local.get_run_status(run_id).state == "scheduled")


def fail(message="no room"):
    raise PermanentError(message, "NO_ROOM")


def compensated(run):
    return run.error["compensated"]


def test_a_failure_for_good_undoes_what_was_done_the_last_first(begin, closed, did, done):
    def stay(wf):
        for what in ("train", "hotel", "tickets"):
            wf.step(what, did, what)
            wf.compensate(f"cancel-{what}", did, f"no {what}")
        wf.step("dinner", fail)

    run = closed(begin(stay))
    assert done == ["train", "hotel", "tickets", "no tickets", "no hotel", "no train"]
    assert (run.state, run.error_code, compensated(run)) == (
        "failed", "NO_ROOM", ["cancel-tickets", "cancel-hotel", "cancel-train"]
    )  # fmt: skip


def test_the_error_on_record_is_the_one_that_the_run_failed_with(begin, closed, did):
    def stay(wf):
        wf.compensate("undo", did, "undo")
        fail("the house is full")

    run = closed(begin(stay))
    assert (run.error["message"], run.error["type"], len(run.errors)) == ("the house is full", "PermanentError", 1)


def test_a_workflow_without_anything_to_undo_fails_at_once(begin, closed):
    run = closed(begin(lambda wf: wf.step("dinner", fail)))
    assert (run.attempt, "compensated" in run.error) == (1, False)


def test_nothing_is_undone_while_the_workflow_has_attempts_left(begin, closed, did, done):
    def stay(wf):
        wf.step("train", did, "train")
        wf.compensate("undo", did, "no train")
        did("tried")
        if done.count("tried") < 3:
            raise TransientError("the line is busy")

    assert (closed(begin(stay)).state, done) == ("completed", ["train", "tried", "tried", "tried"])


def test_nothing_is_undone_of_a_workflow_that_completes(begin, closed, did, done):
    run = closed(begin(lambda wf: wf.compensate("undo", did, "undone")))
    assert (run.state, done) == ("completed", [])


def test_a_cancel_undoes_what_a_waiting_workflow_has_done(begin, closed, waits, local, did, done):
    def stay(wf):
        wf.step("train", did, "train")
        wf.compensate("cancel-train", did, "no train")
        wf.sleep("night", 3600)
        wf.step("leave", did, "leave")

    run_id = begin(stay)
    waits(run_id)
    local.cancel(run_id)
    run = closed(run_id)
    assert (run.state, done, compensated(run)) == ("cancelled", ["train", "no train"], ["cancel-train"])


def test_what_was_not_done_yet_is_not_undone(begin, closed, waits, local, did, done):
    def stay(wf):
        wf.compensate("first", did, "first undone")
        wf.wait_for_signal("go")
        wf.compensate("second", did, "second undone")

    run_id = begin(stay)
    waits(run_id)
    local.cancel(run_id)
    closed(run_id)
    assert done == ["first undone"]


def test_a_workflow_cannot_go_on_when_it_is_undone_whatever_it_catches(begin, closed, did, done):
    def stay(wf):
        wf.compensate("undo", did, "undone")
        try:
            wf.step("dinner", fail)
        except PermanentError:
            if done.count("failed") == 0:
                did("failed")
                raise
            wf.step("picnic", did, "picnic")

    run = closed(begin(stay))
    assert (run.state, done) == ("failed", ["failed", "undone"])


def test_a_compensation_is_tried_again_and_the_others_are_not(begin, closed, did, done):
    def shaky():
        did("shaky")
        if done.count("shaky") < 3:
            raise TransientError("later")

    def stay(wf):
        wf.compensate("first", did, "first")
        wf.compensate("shaky", shaky)
        wf.compensate("last", did, "last")
        fail()

    run = closed(begin(stay))
    assert (run.state, done) == ("failed", ["last", "shaky", "shaky", "shaky", "first"])


def test_a_compensation_that_fails_leaves_those_before_it(begin, closed, did, done):
    def stay(wf):
        wf.compensate("first", did, "first")
        wf.compensate("broken", fail)
        wf.compensate("last", did, "last")
        raise PermanentError("over", "OVER")

    run = closed(begin(stay))
    assert (run.error_code, compensated(run), run.error["cause"]["code"], done) == (
        "COMPENSATION_FAILED", ["last"], "OVER", ["last"]
    )  # fmt: skip


def test_an_effect_that_may_have_happened_is_looked_for_before_it_is_undone(begin, closed, did, done):
    def charge(key):
        did("charged")
        raise OSError("the answer is lost")

    def find(key):
        return "ch-1" if done.count("looked") else look()

    def look():
        did("looked")
        raise OSError("not now")

    def stay(wf):
        wf.compensate("first", did, "first undone")
        charge_id = wf.effect("charge", charge, reconcile=find, retry=QUICK)
        wf.compensate("refund", did, f"refunded {charge_id}")
        fail()

    run = closed(begin(stay))
    assert (run.state, done) == ("failed", ["charged", "looked", "refunded ch-1", "first undone"])


def test_an_effect_that_did_not_happen_is_not_done_when_the_run_is_undone(begin, closed, local, did, done):
    def charge(key):
        did("charged")
        raise OSError("the answer is lost")

    def stay(wf):
        wf.compensate("first", did, "first undone")
        wf.effect("charge", charge, retry=QUICK)

    run_id = begin(stay)
    wait_until(lambda: done)
    wait_until(lambda: local.get_run_status(run_id).state in {"scheduled", "retrying"})
    local.cancel(run_id)
    wait_until(lambda: local.get_run_status(run_id).state == "scheduled")
    local.signal(run_id, "charge", '{"outcome": "again"}')
    assert (closed(run_id).state, done) == ("cancelled", ["charged", "first undone"])


def test_each_branch_of_a_coroutine_is_undone(begin, closed, did, done):
    async def book(wf, what):
        await wf.step(what, did, what)
        await wf.compensate(f"cancel-{what}", did, f"no {what}")
        await wf.wait_for_signal(f"sure-{what}", timeout=0.05)

    async def stay(wf):
        await asyncio.gather(*(book(wf, what) for what in ("train", "hotel", "tickets")))
        await wf.step("dinner", fail)

    run = closed(begin(stay))
    assert (run.state, sorted(done[3:])) == ("failed", ["no hotel", "no tickets", "no train"])


def test_branches_that_go_on_beside_one_that_failed_are_undone(begin, closed, did, done):
    async def book(wf, what):
        await wf.step(what, did, what)
        await wf.compensate(f"cancel-{what}", did, f"no {what}")

    async def dinner(wf):
        await wf.wait_for_signal("hungry", timeout=0.05)
        await wf.step("dinner", fail)

    async def stay(wf):
        async with asyncio.TaskGroup() as group:
            group.create_task(dinner(wf))
            for what in ("train", "hotel"):
                group.create_task(book(wf, what))

    run = closed(begin(stay))
    assert (run.state, sorted(done[2:])) == ("failed", ["no hotel", "no train"])


def test_a_coroutine_that_waits_is_undone_when_it_is_cancelled(begin, closed, waits, local, did, done):
    async def stay(wf):
        await wf.step("train", did, "train")
        await wf.compensate("undo", did, "no train")
        await asyncio.gather(wf.sleep("night", 3600), wf.wait_for_signal("go"))

    run_id = begin(stay)
    waits(run_id)
    local.cancel(run_id)
    assert (closed(run_id).state, done) == ("cancelled", ["train", "no train"])


def test_what_was_undone_under_a_name_that_the_code_no_longer_has_is_not_undone_twice(begin, closed, did, done):
    """The code changes while a compensation is tried again."""
    names = ["cancel-hotel"]

    def shaky():
        names[:] = ["cancel-room"]
        did("no train")
        raise TransientError("the office is closed")

    def stay(wf):
        wf.step("train", did, "train")
        wf.compensate("cancel-train", shaky)
        wf.compensate(names[0], did, "no hotel")
        wf.step("dinner", fail)

    run = closed(begin(stay))
    assert (run.state, run.error_code, done) == ("failed", "WORKFLOW_CHANGED", ["train", "no hotel", "no train"])
    assert "'cancel-hotel'" in run.error["message"]
