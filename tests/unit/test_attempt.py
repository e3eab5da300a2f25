"""The steps of an attempt: each alone, in their order, and the same for everybody who runs jobs."""

import logging
import os
import threading
from datetime import datetime

import pytest
import structlog
from billiard import common as billiard_common

from cgk_tasks.celery_tasks.exceptions import interpret
from cgk_tasks.config import use_settings
from cgk_tasks.errors import JobTimeoutError, PermanentError, RetryLater, RunCancelledError, TransientError
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.worker import attempt as steps
from cgk_tasks.worker import interruption
from cgk_tasks.worker.attempt import Attempt, Outcome, run_attempt, run_inline, value_of

ACME = Tenant("acme", "active", "search_path", "tenant_acme")
AT_ONCE = RetryConfig(initial_delay=0, jitter=False)


class Walked(TenantEvent, event="test.walked"):
    pass


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    yield
    use_settings(None)


@pytest.fixture
def lines(caplog):
    """What the framework logs about runs, each line with the fields that were bound when it was written."""
    caplog.set_level(logging.DEBUG, "cgk_tasks.runs")
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        yield logged


class Session:
    """A session that keeps what it was told. It cannot commit where `refuses` says why."""

    def __init__(self, refuses=None):
        self.told, self.refuses = [], refuses

    def commit(self):
        self.told.append("commit")
        if self.refuses is not None:
            raise self.refuses

    def close(self):
        self.told.append("close")


class Hooks:
    def __init__(self):
        self.told = []

    def begin(self, attempt):
        self.told.append("begin")

    def ended(self, outcome):
        self.told.append(f"ended {outcome.kind}")

    def leave(self):
        self.told.append("leave")


def attempt_of(handler=lambda ctx: None, *, end=steps.leave_open, session=None, timeout=0, **fields):
    job = Job("walk", "test.walked", handler, retry=AT_ONCE, timeout=timeout)
    ctx = JobContext("walk", "run-1", "test.walked", ACME, Walked(tenant_id="acme"), max_attempts=3, _session=session)
    return Attempt(job, ctx, end, **fields)


def giving(value):
    return lambda attempt: value


def raising(error):
    def call(*_args):
        raise error

    return call


COMPLETED = Outcome("completed", value=7, result="7")


# in_context


def test_inside_a_step_of_context_the_tenant_is_the_runs_own():
    assert steps.in_context(attempt_of(), lambda attempt: find_current_tenant()) == ACME


def test_the_tenant_is_left_whatever_happens_inside():
    with pytest.raises(ValueError, match="inside"):
        steps.in_context(attempt_of(), raising(ValueError("inside")))
    assert find_current_tenant() is None


def test_each_log_line_inside_carries_the_runs_names_and_none_outside_does():
    bound = steps.in_context(attempt_of(), lambda attempt: structlog.contextvars.get_contextvars())
    assert bound == {"tenant": "acme", "_event": "test.walked", "run": "run-1", "attempt": 1}
    assert structlog.contextvars.get_contextvars() == {}


def test_a_job_of_no_tenant_runs_in_the_context_that_there_is():
    assert steps.in_context(attempt_of(has_tenant=False), lambda attempt: find_current_tenant()) is None


# logged


@pytest.mark.parametrize(
    ("outcome", "level", "event"),
    [
        (COMPLETED, "info", "run_completed"),
        (Outcome("retry", exception=ValueError(), error_code="X", delay_seconds=1.23456), "warning", "run_will_retry"),
        (Outcome("failed", exception=ValueError(), error_code="X"), "error", "run_failed"),
        (Outcome("snooze", exception=RetryLater(5), delay_seconds=5), "info", "run_snoozed"),
        (Outcome("cancelled", exception=RunCancelledError("run-1")), "info", "run_cancelled"),
    ],
)
def test_each_kind_of_outcome_has_a_line_of_its_own_after_the_one_at_the_start(lines, outcome, level, event):
    assert steps.logged(attempt_of(), giving(outcome)) is outcome
    assert [(line["log_level"], line["event"]) for line in lines] == [("debug", "run_started"), (level, event)]


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_traceback_is_in_the_line_only_where_it_is_asked_for(lines, monkeypatch, asked_for):
    monkeypatch.setenv("CGK_LOG_TRACEBACKS", str(asked_for))
    use_settings(None)
    secret = ValueError("secret")
    steps.logged(attempt_of(), giving(Outcome("failed", exception=secret, error_code="X")))
    assert (lines[-1]["error"], lines[-1]["exc_info"]) == ("ValueError", secret if asked_for else None)


# timed


def test_the_seconds_are_known_outside_also_of_what_raised():
    attempt = attempt_of()
    with pytest.raises(ValueError, match="inside"):
        steps.timed(attempt, raising(ValueError("inside")))
    assert attempt.seconds == attempt.ctx.extra["seconds"] > 0


# observed


def test_hooks_are_told_in_order():
    hooks = Hooks()
    assert steps.observed(attempt_of(hooks=hooks), giving(COMPLETED)) is COMPLETED
    assert hooks.told == ["begin", "ended completed", "leave"]


def test_hooks_leave_also_when_nothing_ended():
    hooks = Hooks()
    with pytest.raises(ValueError, match="inside"):
        steps.observed(attempt_of(hooks=hooks), raising(ValueError("inside")))
    assert hooks.told == ["begin", "leave"]


def test_without_hooks_the_outcome_passes():
    assert steps.observed(attempt_of(), giving(COMPLETED)) is COMPLETED


# recorded


def test_what_the_end_says_takes_the_outcomes_place():
    failed = Outcome("failed")
    attempt = attempt_of(end=lambda attempt, outcome: failed if outcome is COMPLETED else outcome)
    assert steps.recorded(attempt, giving(COMPLETED)) is failed


# classified


def test_a_value_is_a_completion():
    outcome = steps.classified(attempt_of(), giving((7, "7")))
    assert (outcome.kind, outcome.value, outcome.result) == ("completed", 7, "7")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermanentError("no"), "failed"),
        (TransientError("not now"), "retry"),
        (ValueError("unknown"), "retry"),
        (RetryLater(5), "snooze"),
        (RunCancelledError("run-1"), "cancelled"),
        (SystemExit(1), "retry"),
        (KeyboardInterrupt(), "retry"),
        (GeneratorExit(), "retry"),
        (BaseExceptionGroup("many", [SystemExit(1), ValueError()]), "retry"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_whatever_a_job_raises_becomes_an_outcome(error, kind):
    outcome = steps.classified(attempt_of(), raising(error))
    assert (outcome.kind, outcome.exception) == (kind, error)


def test_the_last_attempt_fails_for_good():
    assert steps.classified(attempt_of(max_attempts=1), raising(ValueError())).kind == "failed"


def test_another_framework_is_asked_first_what_its_exceptions_mean():
    ignored = Outcome("completed", result="null")
    attempt = attempt_of(interpret=lambda attempt, exc: ignored if isinstance(exc, KeyError) else None)
    assert steps.classified(attempt, raising(KeyError())) is ignored
    assert steps.classified(attempt, raising(ValueError())).kind == "retry"


def test_the_exit_of_a_process_that_was_told_to_end_passes(monkeypatch):
    monkeypatch.setitem(vars(billiard_common), "_should_have_exited", [True])
    with pytest.raises(SystemExit):
        run_attempt(attempt_of(raising(SystemExit(0)), interpret=interpret))


def test_a_job_that_exits_ends_its_attempt_and_not_its_process():
    assert run_attempt(attempt_of(raising(SystemExit(0)), interpret=interpret)).kind == "retry"


# limited


def test_a_job_that_takes_too_long_is_interrupted():
    def wait(attempt):
        threading.Event().wait(20)

    with pytest.raises(JobTimeoutError):
        steps.limited(attempt_of(timeout=0.05), wait)


def test_a_run_that_was_cancelled_before_it_began_does_not_begin():
    interruption.request(os.getpid(), ["run-1"])
    with pytest.raises(RunCancelledError):
        steps.limited(attempt_of(), raising(AssertionError("it began")))


def test_a_run_that_is_cancelled_while_it_runs_is_interrupted():
    def cancel_and_wait(attempt):
        interruption.request(os.getpid(), ["run-1"])
        while True:
            threading.Event().wait(0.001)

    with pytest.raises(RunCancelledError):
        steps.limited(attempt_of(timeout=20), cancel_and_wait)


def test_a_cancel_that_arrives_while_threading_has_let_go_of_its_lock_cancels_the_run():
    def cancel_and_wait(attempt):
        condition = threading.Condition(threading.Lock())
        condition._acquire_restore = lambda _saved: interruption.request(os.getpid(), ["run-1"])
        with condition:
            condition.wait(0.001)

    with pytest.raises(RunCancelledError):
        steps.limited(attempt_of(timeout=20), cancel_and_wait)


# Together


def test_the_steps_are_in_this_order():
    names = [step.__name__ for step in steps.BUILT_IN]
    assert names == ["in_context", "logged", "timed", "observed", "recorded", "classified", "limited"]


def test_the_first_step_is_the_outermost():
    walked = []

    def step(name):
        def walk(attempt, call_next):
            walked.append(f"{name} begins")
            value = call_next(attempt)
            walked.append(f"{name} ends")
            return value

        return walk

    run = steps.compose((step("a"), step("b")), lambda attempt: walked.append("job"))
    run(attempt_of())
    assert walked == ["a begins", "b begins", "job", "b ends", "a ends"]


def test_steps_are_put_together_once_and_not_for_each_attempt():
    """Each step gets the same next one every time."""
    given = []

    def step(attempt, call_next):
        given.append(call_next)
        return call_next(attempt)

    run = steps.compose((step, step), giving(None))
    run(attempt_of())
    run(attempt_of())
    assert given[0] is given[2]
    assert given[1] is given[3]


def test_middleware_is_inside_of_the_time_limit():
    def slow(ctx, call_next):
        threading.Event().wait(20)
        return call_next()

    attempt = attempt_of(timeout=0.05)
    attempt.job = Job("walk", "test.walked", lambda ctx: None, retry=AT_ONCE, timeout=0.05, around=slow)
    assert run_attempt(attempt).error_code == "TIMEOUT"


def test_a_generators_items_are_its_value():
    outcome = run_attempt(attempt_of(lambda ctx: (number for number in range(3))))
    assert (outcome.value, outcome.result) == ([0, 1, 2], "[0,1,2]")


def test_a_generator_that_never_ends_is_interrupted_by_the_time_limit():
    def endless(ctx):
        while True:
            yield threading.Event().wait(0.001)

    assert run_attempt(attempt_of(endless, timeout=0.05)).error_code == "TIMEOUT"


def test_the_end_is_told_inside_of_the_tenants_context_and_outside_of_the_time_limit():
    seen = []

    def end(attempt, outcome):
        threading.Event().wait(0.6)  # longer than the limit, which is the job's alone
        seen.append(find_current_tenant())
        return outcome

    assert run_attempt(attempt_of(end=end, timeout=0.5)).kind == "completed"
    assert seen == [ACME]


# The ends


def test_a_completion_commits_what_the_job_wrote_and_closes_its_session():
    session = Session()
    assert run_attempt(attempt_of(end=steps.commit, session=session)).kind == "completed"
    assert session.told == ["commit", "close"]


def test_a_failure_only_closes_the_session_which_rolls_back():
    session = Session()
    run_attempt(attempt_of(raising(ValueError()), end=steps.commit, session=session))
    assert session.told == ["close"]


def test_a_commit_that_fails_is_a_failed_attempt():
    session = Session(refuses=ValueError("constraint"))
    outcome = run_attempt(attempt_of(end=steps.commit, session=session))
    assert (outcome.kind, str(outcome.exception)) == ("retry", "constraint")
    assert session.told == ["commit", "close"]


def test_a_session_that_is_the_callers_to_commit_is_left_as_it_is():
    session = Session()
    attempt = attempt_of(end=steps.leave_open, session=session)
    assert run_attempt(attempt).kind == "completed"
    assert (session.told, attempt.ctx.opened_session) == ([], session)


def test_the_value_of_an_outcome_is_what_the_job_returned_or_raised():
    assert value_of(COMPLETED) == 7
    with pytest.raises(PermanentError, match="no"):
        value_of(Outcome("failed", exception=PermanentError("no")))


def test_a_job_that_runs_inline_is_told_who_and_what_and_when():
    seen = []
    job = Job("walk", "test.walked", lambda ctx: seen.append(ctx) or "done", retry=RetryConfig(5))
    payload = Walked(tenant_id="acme")
    assert run_inline(job, payload, ACME) == "done"
    (ctx,) = seen
    assert (ctx.job_id, ctx.event, ctx.tenant, ctx.payload) == ("walk", "test.walked", ACME, payload)
    assert (ctx.attempt, ctx.max_attempts, isinstance(ctx.started_at, datetime)) == (1, 5, True)
    assert len(ctx.run_id) == 36


def test_what_a_job_that_runs_inline_raises_is_raised():
    with pytest.raises(PermanentError, match="no"):
        run_inline(Job("walk", "test.walked", raising(PermanentError("no"))), Walked(tenant_id="acme"), ACME)
