"""Steps in plain jobs: a retry does not do again what is done."""

import os

import pytest

from cgk_tasks import JobContext, RetryConfig, define_job
from cgk_tasks.client.local import LocalProvider
from cgk_tasks.config import use_settings
from cgk_tasks.errors import ConfigurationError, PermanentError, TransientError
from cgk_tasks.events import TenantEvent
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.workflows.effects import Reconciled
from tests.support.legs import ACME
from tests.support.waiting import wait_until


class Chore(TenantEvent, event="unit.chore"):
    """A job with steps."""


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    yield
    remove_job("unit-chore")
    use_settings(None)


@pytest.fixture
def local():
    provider = LocalProvider()
    yield provider
    provider.close()


@pytest.fixture
def do(local):
    """Runs a job of this function; returns its run when it has ended."""

    def do(function):
        retry = RetryConfig(max_attempts=3, initial_delay=0.01, jitter=False)
        define_job("unit-chore", event=Chore, retry=retry)(function)
        run_id = local.send(Chore(tenant_id="acme"), SendOptions()).id
        return wait_until(lambda: run if (run := local.get_run_status(run_id)).is_closed else None)

    return do


@pytest.fixture
def done():
    return []


@pytest.fixture
def did(done):
    def did(what):
        done.append(what)
        return what

    return did


def test_a_retry_does_not_do_again_what_is_done(do, did, done):
    def chore(ctx):
        first = ctx.step("first", did, "first")
        if ctx.attempt < 3:
            raise TransientError("later")
        return [first, ctx.step("second", did, "second")]

    run = do(chore)
    assert (run.result, run.attempt, done) == (["first", "second"], 3, ["first", "second"])


def test_an_error_in_a_step_is_the_jobs_own(do, did, done):
    def shaky():
        did("shaky")
        if done.count("shaky") == 1:
            raise OSError("away")
        return "well"

    def chore(ctx):
        try:
            return ctx.step("shaky", shaky)
        except OSError:
            did("caught")
            raise

    run = do(chore)
    assert (run.result, done, run.errors[0]["type"]) == ("well", ["shaky", "caught", "shaky"], "OSError")


def test_an_effect_that_may_have_happened_is_looked_for(do, did, done):
    def charge(key):
        did("charged")
        raise OSError("the answer is lost")

    run = do(lambda ctx: ctx.effect("charge", charge, reconcile=lambda key: "ch-1"))
    assert (run.result, done) == ("ch-1", ["charged"])


def test_an_effect_that_did_not_happen_is_done_again(do, did, done):
    def charge(key):
        did("charged")
        if done.count("charged") == 1:
            raise OSError("no way")
        return key

    run = do(lambda ctx: ctx.effect("charge", charge, reconcile=lambda key: Reconciled.NOT_DONE))
    assert (run.result, done) == (f"{run.id}:charge:1", ["charged", "charged"])


def test_a_person_decides_about_an_effect_of_which_nobody_knows(local, did, done):
    def charge(key):
        did("charged")
        raise OSError("the answer is lost")

    define_job("unit-chore", event=Chore, retry=RetryConfig(initial_delay=0.01))(
        lambda ctx: ctx.effect("charge", charge)
    )
    run_id = local.send(Chore(tenant_id="acme"), SendOptions()).id
    wait_until(lambda: local.get_run_status(run_id).state == "scheduled")
    local.signal(run_id, "charge", '{"outcome": "done", "result": 7}')
    run = wait_until(lambda: run if (run := local.get_run_status(run_id)).is_closed else None)
    assert (run.result, done) == (7, ["charged"])


def test_what_was_done_is_undone_when_the_job_fails_for_good(do, did, done):
    def chore(ctx):
        did("begun")
        for what in ("one", "two"):
            ctx.step(what, did, what)
            ctx.compensate(f"undo-{what}", did, f"no {what}")
        raise PermanentError("over", "OVER")

    run = do(chore)
    assert (run.error_code, run.error["compensated"], done) == (
        "OVER", ["undo-two", "undo-one"], ["begun", "one", "two", "begun", "no two", "no one"]
    )  # fmt: skip


def test_a_step_inside_of_a_step_is_refused(do):
    run = do(lambda ctx: ctx.step("outer", ctx.step, "inner", int))
    assert "inside of the step" in run.error["message"]


def test_a_context_of_nobody_has_no_steps():
    ctx = JobContext("job", "run", "unit.chore", ACME, Chore(tenant_id="acme"))
    with pytest.raises(ConfigurationError, match="who keeps them"):
        ctx.step("one", int)
