"""Rules that decide about sends: what they refuse where they are written down, and what a job is given."""

from datetime import timedelta
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks import AtOnce, Batch, Debounce, RateLimit, Singleton, Throttle, define_job, define_workflow
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events import Sensitive, TenantEvent
from cgk_tasks.events.redaction import Redaction, redacted
from cgk_tasks.events.registry import parse_events_json
from cgk_tasks.jobs.registry import find_job, remove_job
from cgk_tasks.jobs.routes import find_route
from cgk_tasks.testing import LocalJobs, run_job


class Changed(TenantEvent, event="test.send_rules.changed"):
    doc_id: str = ""


class Ordered(TenantEvent, event="test.send_rules.ordered"):
    email: Annotated[str, Sensitive()] = ""


class Unrecorded(TenantEvent, event="test.send_rules.unrecorded", durable=False):
    pass


@pytest.fixture
def define():
    made = []

    def make(name="test-send-rules", handler=lambda _ctx: None, **options):
        made.append(name)
        define_job(name, **{"event": Changed} | options)(handler)
        return find_job(name)

    yield make
    for name in made:
        remove_job(name)


@pytest.mark.parametrize(
    ("rule", "options", "said"),
    [
        (Debounce, {"delay": -1}, "delay must be at least 0.001 seconds, or a timedelta, not -1"),
        (Debounce, {"delay": 5, "max_wait": 4}, "max_wait must be at least the delay (5 s), not 4"),
        (Debounce, {"delay": 5, "key": ""}, "key must be the name of a field"),
        (Singleton, {"on_conflict": "queue"}, 'on_conflict must be "skip" or "cancel_old", not \'queue\''),
        (RateLimit, {"limit": 0, "every": 60}, "limit must be a whole number from 1, not 0"),
        (RateLimit, {"limit": 5, "every": 0}, "every must be at least 0.001 seconds"),
        (RateLimit, {"limit": 5, "every": 60, "burst": -1}, "burst must be a whole number from 1, not -1"),
        (RateLimit, {"limit": 5, "every": 60, "per": "job"}, 'per must be "tenant" or "all"'),
        (Batch, {"size": 10_001, "max_wait": 5}, "size must be a whole number from 1 to 10000, not 10001"),
        (Batch, {"size": 5, "max_wait": -5}, "max_wait must be at least 0.001 seconds"),
    ],
)
def test_a_value_out_of_range_is_refused_where_the_rule_is_written_down(rule, options, said):
    with pytest.raises(ConfigurationError) as refused:
        rule(**options)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limits": [Debounce(5), Batch(5, max_wait=5)]}, "Debounce and Batch cannot go together"),
        ({"limits": [Singleton(), Batch(5, max_wait=5)]}, "In place of Singleton use AtOnce(1"),
        ({"limits": [Singleton(), Singleton(key="docId")]}, "two rules of the kind Singleton"),
        ({"limits": [RateLimit(5, every=60), RateLimit(6, every=60)]}, "two rules of the kind RateLimit"),
        ({"limits": [Debounce(5, key="doc_id")]}, "Use a field as the payload has it: docId, tenantId."),
        ({"event": Unrecorded, "limits": [Singleton()]}, "are not recorded (durable=False)"),
    ],
)
def test_rules_that_make_no_sense_are_refused_at_import(define, options, said):
    with pytest.raises(ConfigurationError) as refused:
        define(**options)
    assert said in str(refused.value)


def test_rules_of_sends_and_limits_of_runs_stand_side_by_side(define):
    job = define(limits=[AtOnce(1), Singleton(), Throttle(5, every=1), RateLimit(5, every=1)])
    assert (job.limits, job.send_rules) == (
        (AtOnce(1), Throttle(5, every=1)),
        (Singleton(), RateLimit(5, every=1)),
    )


def test_jobs_of_one_event_have_the_same_rules(define):
    define("test-rules-one", limits=[Debounce(5)])
    with pytest.raises(ConfigurationError, match=r"have the same event, test\.send_rules\.changed, and different"):
        define("test-rules-two", limits=[Debounce(6)])
    assert find_job("test-rules-two") is None
    assert find_job("test-rules-one") is not None


def test_a_job_without_rules_says_nothing(define):
    define()
    assert find_route("test.send_rules.changed").send_rules is None


def test_a_job_of_any_other_kind_has_one_payload(define):
    seen = []
    define(handler=lambda ctx: seen.append(ctx.payloads))
    event = Changed(tenant_id="acme")
    run_job("test-send-rules", event)
    assert seen == [[event]]


def test_a_test_can_run_a_job_with_several_events(define):
    define(handler=lambda ctx: [event.doc_id for event in ctx.payloads], limits=[Batch(5, max_wait=5)])
    assert run_job("test-send-rules", [{"docId": "a"}, {"docId": "b"}], tenant="acme") == ["a", "b"]


def test_in_a_test_time_can_pass_until_a_run_is_due(define):
    define(handler=lambda ctx: [event.doc_id for event in ctx.payloads], limits=[Batch(5, max_wait=timedelta(hours=1))])
    with LocalJobs() as jobs:
        for doc_id in "ab":
            jobs.send(Changed(tenant_id="acme", doc_id=doc_id))
        runs = jobs.advance(timedelta(hours=1))
    assert ([event.doc_id for event in jobs.sent], runs[0].result) == (["a", "b"], ["a", "b"])


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6), size=st.integers(1, 4))
def test_however_events_are_sent_each_is_in_one_run_in_order_and_no_run_has_more_than_fit(sizes, size):
    define_job("test-send-rules-any", event=Changed, limits=[Batch(size, max_wait=60)])(
        lambda ctx: [event.doc_id for event in ctx.payloads]
    )
    try:
        with LocalJobs(concurrency=1) as jobs:
            names = iter(range(sum(sizes)))
            for count in sizes:
                jobs.client.send_batch([Changed(tenant_id="acme", doc_id=str(next(names))) for _ in range(count)])
            runs = {run.id: run.result for run in jobs.advance(timedelta(seconds=60))}
    finally:
        remove_job("test-send-rules-any")
    assert sorted(int(name) for result in runs.values() for name in result) == list(range(sum(sizes)))
    assert all(len(result) <= size and result == sorted(result, key=int) for result in runs.values())


def test_a_send_that_was_not_accepted_is_not_among_those_of_a_test(define):
    define(limits=[RateLimit(1, every=60)])
    with LocalJobs() as jobs:
        handles = [jobs.send(Changed(tenant_id="acme")) for _ in range(2)]
        jobs.wait_idle()
    assert ([handle.outcome for handle in handles], len(jobs.sent), len(jobs.runs)) == (["accepted", "skipped"], 1, 1)


# Several events as one payload


def test_a_list_of_events_is_read_as_such_and_one_alone_as_a_list_of_one():
    both = parse_events_json(Changed.event_name, '[{"tenantId":"acme","docId":"a"},{"tenantId":"acme","docId":"b"}]')
    alone = parse_events_json(Changed.event_name, '{"tenantId":"acme","docId":"a"}')
    assert ([one.doc_id for one in both], [one.doc_id for one in alone]) == (["a", "b"], ["a"])


ORDERS = [{"tenantId": "acme", "email": "ada@example.com"}, {"tenantId": "acme", "email": "bob@example.com"}]


def test_each_of_several_events_is_shown_without_its_personal_data():
    assert redacted(Ordered.event_name, ORDERS) == [{"tenantId": "acme", "email": "[redacted]"}] * 2


@pytest.mark.parametrize("payload", [ORDERS, [Ordered(tenant_id="acme", email=one["email"]) for one in ORDERS]])
def test_no_text_quotes_any_of_them(payload):
    hide = Redaction(Ordered.event_name, payload)
    assert hide.text("acme: bob@example.com") == "acme: [redacted]"


def test_a_workflow_may_have_a_time_to_live_which_ends_when_it_begins():
    define_workflow("test-send-rules-waits", event=Changed, ttl=60)(lambda wf: wf.sleep("long", 3600))
    try:
        with LocalJobs() as jobs:
            handle = jobs.send(Changed(tenant_id="acme"), delay=5)
            sent = jobs.client.get_run_status(handle.id)
            run = jobs.advance(timedelta(seconds=120))[0]
    finally:
        remove_job("test-send-rules-waits")
    assert (sent.expires_at - sent.run_at, run.state, run.expires_at) == (timedelta(seconds=60), "scheduled", None)
