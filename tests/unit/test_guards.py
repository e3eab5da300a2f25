"""What guards are declared as, how they move, and what an error says of a partner. No server."""

import email.message
import json
import urllib.error
from datetime import timedelta

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks import AtOnce, PermanentError, RetryLater, TransientError, define_guard, define_job
from cgk_tasks.admission.declared import limits_of, text_of_limits
from cgk_tasks.admission.guard_moves import GuardState, Report, moved
from cgk_tasks.admission.guards import Guard
from cgk_tasks.errors import ConfigurationError, JobTimeoutError, LimitReached
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.guards import judged, remove_guard
from cgk_tasks.jobs.registry import find_job, remove_job
from cgk_tasks.jobs.routes import are_limits_declared


class Guarded(TenantEvent, event="test.guarded"):
    pass


class Unrecorded(TenantEvent, event="test.guarded.unrecorded", durable=False):
    pass


@pytest.fixture
def shopify():
    """A guard of this name, for one test."""
    yield define_guard("shopify", at_once=20)
    remove_guard("shopify")


@pytest.fixture
def define():
    """Defines a job with these options, for one test, and returns it."""

    def make(**options):
        define_job("test-guarded-job", **{"event": Guarded} | options)(lambda _ctx: None)
        return find_job("test-guarded-job")

    yield make
    remove_job("test-guarded-job")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"at_once": 0}, "Guard: at_once must be a whole number from 1, not 0."),
        ({"at_once": 5, "per": "shop"}, 'Guard: per must be "tenant" or "all", not \'shop\'.'),
        ({"at_once": 5, "probe_after": 0}, "Guard: probe_after must be at least 0.001 seconds, or a timedelta, not 0."),
        ({"at_once": 5, "probe_after": "1m"}, "probe_after must be at least 0.001 seconds"),
        ({"at_once": 5, "name": "a/b"}, "printable characters without spaces and /, not 'a/b'"),
        ({"at_once": 5, "name": ""}, "name must be 1 to 100 printable characters"),
    ],
)
def test_a_guard_that_cannot_be_is_refused_where_it_is_declared(options, said):
    with pytest.raises(ConfigurationError) as refused:
        define_guard(**{"name": "shopify"} | options)
    assert said in str(refused.value)


def test_a_guard_is_declared_once(shopify):
    assert define_guard("shopify", at_once=20) == shopify
    with pytest.raises(ConfigurationError, match="The guard 'shopify' is declared twice, and not alike: at_once=20"):
        define_guard("shopify", at_once=30)


def test_a_job_that_uses_what_is_not_declared_hears_the_nearest_name(shopify, define):
    with pytest.raises(ConfigurationError) as refused:
        define(uses=["shopfy"])
    assert "uses 'shopfy', and no such guard is declared. Did you mean" in str(refused.value)
    assert "shopify" in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"uses": "shopify"}, "uses must be a list of guards, not 'shopify'."),
        ({"uses": ["shopify", "shopify"]}, "uses 'shopify' twice."),
        ({"uses": [5]}, "uses 5, and no such guard is declared"),
        ({"uses": ["shopify"], "event": Unrecorded}, "runs of test.guarded.unrecorded are not recorded"),
    ],
)
def test_uses_that_make_no_sense_are_refused_at_import(shopify, define, options, said):
    with pytest.raises(ConfigurationError) as refused:
        define(**options)
    assert said in str(refused.value)


def test_a_job_has_its_guards_among_what_says_when_its_runs_start(shopify, define):
    assert define(limits=[AtOnce(2)], uses=["shopify"]).limits == (AtOnce(2), shopify)
    assert are_limits_declared()


def test_a_job_names_a_guard_by_itself_too(shopify, define):
    assert define(uses=[shopify]).limits == (shopify,)


def test_senders_read_what_a_job_uses_and_those_of_an_earlier_release_pass_it_over():
    guard = Guard("shopify", 20, "tenant", timedelta(minutes=1))
    text = text_of_limits("sync", (AtOnce(2), guard))
    assert limits_of(text).limits == (AtOnce(2), Guard("shopify", 20, "tenant", 60.0))
    assert json.loads(text)["limits"] == [
        {"kind": "at_once", "limit": 2, "per": "tenant", "key": None, "lend_to": None}
    ]


def test_a_job_without_guards_is_noted_as_before():
    assert json.loads(text_of_limits("sync", (AtOnce(2),))).keys() == {"job", "limits"}


def test_a_guard_that_senders_have_read_is_the_same_one():
    guard = Guard("shopify", 20, probe_after=timedelta(minutes=1))
    assert limits_of(text_of_limits("sync", (guard,))).limits == (guard,)


def test_a_guard_of_a_later_release_is_passed_over():
    text = json.dumps({"job": "sync", "limits": [], "uses": [{"name": "shopify", "at_once": 2, "slow_start": True}]})
    assert limits_of(text).limits == ()


MOST, PROBE = 20, 30.0


def after(guard, *reports, now=1000.0):
    for report in reports:
        guard = moved(guard, report, now, most=MOST, probe_after=PROBE)
    return guard


def asked(at=1000.0, seconds=3.0, **seen):
    return Report(asked=1, asked_at=at, until=at + seconds, **seen)


OPEN = GuardState("open", 20.0)


def test_a_429_halves_the_limit_and_closes_the_guard_for_as_long_as_the_partner_asks():
    guard = after(OPEN, asked())
    assert (guard.state, guard.at_once, guard.opens_at) == ("throttled", 10, 1003.0)


def test_runs_that_were_on_together_halve_it_once():
    guard = after(OPEN, asked(), asked(seconds=5.0), asked(at=999.9))
    assert (guard.at_once, guard.opens_at) == (10, 1005.0)


def test_a_429_after_it_opened_again_halves_it_again():
    assert after(after(OPEN, asked()), asked(at=1004.0), now=1004.0).at_once == 5


def test_the_limit_never_goes_below_one():
    guard = GuardState("open", 1.0)
    assert after(guard, asked()).at_once == 1


def test_as_many_successes_as_the_limit_add_one():
    guard = after(GuardState("open", 10.0), Report(successes=11))
    assert 11 <= guard.limit < 11.1


def test_the_limit_grows_no_further_than_what_is_declared():
    assert after(GuardState("open", 19.9), Report(successes=10_000)).limit == MOST


def test_five_failures_in_a_row_close_it():
    guard = after(OPEN, Report(failures=2), Report(failures=2))
    assert guard.state == "open"
    guard = after(guard, Report(failures=1))
    assert (guard.state, guard.at_once, guard.opens_at) == ("failing", 1, 1000.0 + PROBE)


def test_a_success_between_begins_the_row_anew():
    assert after(OPEN, Report(failures=4), Report(successes=1, failures=4)).state == "open"


def test_a_probe_that_gets_through_opens_it_at_half():
    failing = after(OPEN, Report(failures=5))
    guard = after(failing, Report(successes=1), now=1031.0)
    assert (guard.state, guard.at_once, guard.failures) == ("open", 10, 0)


def test_a_probe_that_says_nothing_of_the_partner_opens_it_too():
    assert after(after(OPEN, Report(failures=5)), Report(others=1), now=1031.0).state == "open"


def test_each_probe_that_fails_doubles_the_pause():
    guard = after(OPEN, Report(failures=5))
    pauses = []
    for _ in range(6):
        now = guard.opens_at + 1
        guard = after(guard, Report(failures=1), now=now)
        pauses.append(guard.opens_at - now)
    assert pauses == [60, 120, 240, 300, 300, 300]


def test_failures_of_runs_that_had_begun_before_are_no_probes():
    failing = after(OPEN, Report(failures=5))
    assert after(failing, Report(failures=3), now=1001.0) == failing


def test_what_is_closed_by_hand_stays_so_whatever_is_reported():
    shut = GuardState("shut", 20.0, opens_at=float("inf"))
    assert after(shut, asked(), Report(failures=9), Report(successes=9)) == shut


def test_a_declared_limit_that_was_lowered_counts_at_once():
    assert moved(OPEN, Report(), 1000.0, most=4, probe_after=PROBE).limit == 4


REPORTS = st.builds(
    Report, successes=st.integers(0, 50), others=st.integers(0, 5), failures=st.integers(0, 7), asked=st.integers(0, 3),
    asked_at=st.floats(0, 100), until=st.floats(0, 200),
)  # fmt: skip


@given(st.lists(st.tuples(st.floats(0, 10), REPORTS), max_size=30))
def test_whatever_is_reported_some_may_start_some_time_and_never_more_than_declared(steps):
    guard, now = GuardState("open", float(MOST)), 0.0
    for seconds, report in steps:
        now += seconds
        guard = moved(guard, report, now, most=MOST, probe_after=PROBE)
        assert 1 <= guard.at_once <= guard.limit <= MOST
        assert guard.opens_at < float("inf")
        assert guard.state != "failing" or guard.at_once == 1
    assert after(guard, Report(successes=1), now=max(now, guard.opens_at) + 1).state == "open"


def http_error(status, **headers):
    found = email.message.Message()
    for name, value in headers.items():
        found[name.replace("_", "-")] = value
    return urllib.error.HTTPError("http://partner", status, "said so", found, None)


@pytest.mark.parametrize(
    ("error", "kind", "seconds"),
    [
        (http_error(429, Retry_After="3"), "asked", 3.0),
        (http_error(429), "asked", 60.0),
        (http_error(503, Retry_After="7"), "asked", 7.0),
        (http_error(503), "failure", 0.0),
        (http_error(500), "failure", 0.0),
        (http_error(404), "other", 0.0),
        (RetryLater(5), "asked", 5.0),
        (LimitReached(5, "a limit of ours"), "other", 0.0),
        (TransientError("busy", "THROTTLED"), "asked", 60.0),
        (TransientError("busy", retry_after=9), "asked", 9.0),
        (TransientError("broken"), "failure", 0.0),
        (PermanentError("no such order"), "other", 0.0),
        (TimeoutError(), "failure", 0.0),
        (JobTimeoutError(5), "failure", 0.0),
        (ConnectionRefusedError(), "failure", 0.0),
        (ValueError("a mistake of ours"), "other", 0.0),
        (psycopg.errors.DeadlockDetected(), "other", 0.0),
    ],
)
def test_an_error_says_of_the_partner(error, kind, seconds):
    assert judged(error) == (kind, seconds)


def test_an_error_that_was_translated_says_the_same():
    error = RuntimeError("the partner's client has a class of its own")
    error.__cause__ = http_error(429, Retry_After="4")
    assert judged(error) == ("asked", 4.0)
