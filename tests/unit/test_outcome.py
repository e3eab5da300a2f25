"""What goes on record of how an attempt ended, whatever the job raised."""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.config import use_settings
from cgk_tasks.errors import LONGEST_WAIT_SECONDS, PermanentError, RetryLater, RunCancelledError, TransientError
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.worker.outcome import Outcome, failure, outcome_of, permanent_failure, retry_after

ACME = Tenant("acme", "active", "search_path", "tenant_acme")
MOST = 256 * 1024
"""Bytes that the entry of one error may have in the record."""

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
ANY_FLOAT = st.floats()
ANY_ARGUMENT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | ANY_FLOAT
    | ANY_TEXT
    | st.builds(pow, st.just(10), st.just(5000))
    | st.builds(object),
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=10,
)
FIELDS = (
    "args", "code", "reason", "delay_seconds", "retry_after", "sqlstate", "pgcode", "response", "status", "status_code",
    "http_status", "headers", "errno", "orig", "__cause__", "__context__", "__notes__", "__suppress_context__",
)  # fmt: skip
METHODS = ("__str__", "__repr__", "__eq__", "__hash__")
BASES = (Exception, BaseException, ValueError, OSError, KeyError, PermanentError, TransientError, RetryLater)
SPOILERS = (ValueError, SystemExit, KeyboardInterrupt, RecursionError)


@pytest.fixture(autouse=True)
def without_settings():
    use_settings(None)


@st.composite
def exceptions(draw):
    """An exception of a class whose fields and methods raise, or hold what they should not."""
    base = draw(st.sampled_from(BASES))
    members = {}
    for name in draw(st.sets(st.sampled_from(FIELDS), max_size=4)):
        spoiler = draw(st.sampled_from(SPOILERS))
        value = draw(ANY_ARGUMENT)
        members[name] = draw(st.sampled_from([_raising_property(spoiler), property(lambda _self, value=value: value)]))
    for name in draw(st.sets(st.sampled_from(METHODS), max_size=3)):
        members[name] = _raising_method(draw(st.sampled_from(SPOILERS)))
    kind = type(draw(st.sampled_from(["Odd", "O" * 10_000, "Écart"])), (base,), members)
    made = kind.__new__(kind)
    given = draw(st.lists(ANY_ARGUMENT, max_size=3))
    BaseException.args.__set__(made, tuple(given))
    return made


def _raising_property(error):
    def get(_self):
        raise error("not this field")

    return property(get, lambda _self, _value: None)


def _raising_method(error):
    def method(_self, *_arguments):
        raise error("not this method")

    return method


def raised(exc):
    """The exception as a job would raise it, with a traceback where it takes one."""
    try:
        raise exc
    except BaseException as caught:
        return caught


def judged(exc, *, retry=None, attempt=1, **options):
    job = Job("odd", "test.odd", lambda ctx: None, retry=retry or RetryConfig())
    ctx = JobContext("odd", "run-1", "test.odd", ACME, None, attempt=attempt)
    try:
        return outcome_of(exc, job, ctx, **options)
    except BaseException as spoiled:  # a KeyboardInterrupt would end the tests
        pytest.fail(f"outcome_of raised {type(spoiled).__name__}")


def check(outcome: Outcome) -> None:
    """That PostgreSQL takes what goes on record of it."""
    assert type(outcome.delay_seconds) in {int, float}
    assert 0 <= outcome.delay_seconds <= LONGEST_WAIT_SECONDS
    for text in (outcome.error, outcome.deferral, outcome.error_code):
        if text is not None:
            assert "\0" not in text
            assert len(text.encode("utf-8")) <= MOST
    for text in (outcome.error, outcome.deferral):
        if text is not None:
            assert "\\u0000" not in text
            json.dumps(json.loads(text, parse_constant=pytest.fail), ensure_ascii=False).encode("utf-8")


@given(exceptions())
def test_whatever_a_job_raises_can_be_recorded(exc):
    check(judged(raised(exc)))


@given(exceptions())
def test_whatever_a_run_cannot_begin_for_can_be_recorded(exc):
    try:
        outcome = permanent_failure(raised(exc), 1)
    except BaseException as spoiled:
        pytest.fail(f"permanent_failure raised {type(spoiled).__name__}")
    assert outcome.kind == "failed"
    check(outcome)


@given(exceptions(), exceptions())
def test_whatever_caused_what_a_job_raises_can_be_recorded(exc, cause):
    BaseException.__cause__.__set__(exc, cause)
    check(judged(raised(exc)))


@given(st.lists(exceptions(), min_size=1, max_size=3))
def test_a_group_of_exceptions_can_be_recorded(members):
    check(judged(raised(BaseExceptionGroup("many", members))))


@given(ANY_TEXT)
def test_any_text_and_code_of_an_error_can_be_recorded(text):
    for error in (PermanentError(text, text), TransientError(text, text), ValueError(text), RetryLater(1, text)):
        check(judged(raised(error)))


@given(ANY_FLOAT | st.integers(-(10**300), 10**300))
def test_any_wait_that_a_job_asks_for_is_between_nothing_and_a_century(seconds):
    check(judged(RetryLater(seconds)))
    check(judged(TransientError("later", retry_after=seconds)))


@given(st.floats(0, 1e308), st.floats(0, 1e308), st.integers(1, 10**6))
def test_any_policy_waits_between_nothing_and_a_century(initial, most, attempt):
    retry = RetryConfig(10**9, initial_delay=min(initial, most), max_delay=max(initial, most), factor=1e6)
    check(judged(ValueError(), retry=retry, attempt=attempt))


def test_what_a_task_asks_celery_to_wait_is_recorded_with_its_cause():
    ctx = JobContext("odd", "run-1", "test.odd", ACME, None, attempt=2)
    outcome = retry_after(ValueError("retry"), KeyError("cause"), ctx, 5.0, '{"a": 1}')
    check(outcome)
    assert (outcome.kind, outcome.delay_seconds, outcome.payload) == ("retry", 5.0, '{"a": 1}')
    assert (json.loads(outcome.error)["type"], json.loads(outcome.error)["attempt"]) == ("KeyError", 2)


def test_an_errors_entry_says_what_it_was_and_where():
    entry = json.loads(judged(raised(ValueError("no", 7)), attempt=2).error)
    assert (entry["type"], entry["module"], entry["message"]) == ("ValueError", "builtins", "('no', 7)")
    assert (entry["attempt"], entry["args"], entry["kind"]) == (2, ["no", 7], "unknown")
    assert "test_outcome.py" in entry["traceback"]
    assert datetime.now(UTC) - datetime.fromisoformat(entry["at"]) < timedelta(minutes=1)


def test_an_errors_entry_says_when_the_attempt_began_where_that_is_known():
    began = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
    job = Job("odd", "test.odd", lambda ctx: None, retry=RetryConfig())
    ctx = JobContext("odd", "run-1", "test.odd", ACME, None, started_at=began)
    assert json.loads(failure(ValueError("no"), job, ctx).error)["began_at"] == "2026-03-01T09:00:00+00:00"
    assert "began_at" not in json.loads(judged(ValueError("no")).error)


def test_of_a_long_text_the_beginning_is_kept_and_of_a_long_traceback_the_end():
    entry = json.loads(judged(raised(ValueError("a" * 100_000 + "z"))).error)
    assert entry["message"] == "a" * 2000
    assert entry["traceback"].endswith("z\n")
    assert len(entry["traceback"]) == 16_000


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RetryLater(5, "busy"), "snooze"),
        (RunCancelledError("run-1"), "cancelled"),
        (PermanentError("no"), "failed"),
        (TransientError("later"), "retry"),
        (ValueError(), "retry"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_decides_how_its_run_goes_on(error, kind):
    assert judged(error).kind == kind


def test_a_deferral_says_why_without_being_an_error():
    outcome = judged(RetryLater(5, "busy"))
    assert (json.loads(outcome.deferral), outcome.error) == ({"code": "RETRY_LATER", "reason": "busy"}, None)


def test_the_runs_own_limit_of_attempts_wins_over_the_jobs():
    assert judged(ValueError(), max_attempts=1).kind == "failed"
    assert judged(ValueError(), retry=RetryConfig(1), max_attempts=2).kind == "retry"


def test_no_attempt_begins_later_than_the_policy_allows():
    retry = RetryConfig(max_elapsed=60)
    since = datetime.now(UTC) - timedelta(seconds=61)
    assert judged(ValueError(), retry=retry, trying_since=since).kind == "failed"


def test_a_failed_attempt_is_judged_by_what_it_raised_even_when_that_is_no_failure():
    """As when the commit of a job's own writes raises."""
    job = Job("odd", "test.odd", lambda ctx: None)
    ctx = JobContext("odd", "run-1", "test.odd", ACME, None)
    assert failure(RetryLater(math.inf), job, ctx).delay_seconds == LONGEST_WAIT_SECONDS
