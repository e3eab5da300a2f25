"""What every provider does in the same way."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from cgk_tasks import SendItem, SendOptions
from cgk_tasks.errors import (
    ChunkRefusedError,
    IdempotencyConflictError,
    InvalidOptionError,
    InvalidTenantError,
    PayloadInvalidError,
    PayloadTooLargeError,
    RunFailedError,
    RunStateError,
    TenantMissingError,
    UnknownEventError,
    UnknownRunError,
    UnknownTenantError,
    WaitTimeoutError,
)
from tests.conformance.jobs import Act, Async, Backoff, Nobody, RetryAfter, Slow, Two


@pytest.fixture
def run(provider_client, wait_for):
    """Send one action and wait for its end."""

    def send_and_wait(action, argument="", tenant="acme", **options):
        event = Act(tenant_id=tenant, action=action, argument=argument)
        return wait_for(provider_client.send(event, **options).id)

    return send_and_wait


@pytest.fixture
def blocked(provider_client, wait_for, tmp_path):
    """A run that runs until the test ends."""
    release = tmp_path / "release"
    handle = provider_client.send(Act(tenant_id="acme", action="wait_for_file", argument=str(release)))
    wait_for(handle.id, "running")
    yield handle
    release.touch()
    wait_for(handle.id)


# What is refused

NO_ZONE = datetime(2030, 1, 1)  # noqa: DTZ001 - that is what is wrong with it


@pytest.mark.parametrize(
    ("event", "payload", "options", "error"),
    [
        ("conformance.act", {"action": "echo"}, {}, TenantMissingError),
        ("conformance.act", {"tenantId": "nobody", "action": "echo"}, {}, UnknownTenantError),
        ("conformance.act", {"tenantId": "No Tenant", "action": "echo"}, {}, InvalidTenantError),
        ("conformance.act", {"tenantId": "acme"}, {}, PayloadInvalidError),
        ("conformance.act", {"tenantId": "acme", "action": 1}, {}, PayloadInvalidError),
        ("conformance.act", {"tenantId": "acme", "action": "echo", "more": 1}, {}, PayloadInvalidError),
        ("conformance.act", {"tenantId": "acme", "action": "x" * 300_000}, {}, PayloadTooLargeError),
        ("conformance.akt", {"tenantId": "acme", "action": "echo"}, {}, UnknownEventError),
        ("conformance.act", {"tenantId": "acme", "action": "echo"}, {"delay": -1}, InvalidOptionError),
        ("conformance.act", {"tenantId": "acme", "action": "echo"}, {"priority": 10}, InvalidOptionError),
        ("conformance.act", {"tenantId": "acme", "action": "echo"}, {"run_at": NO_ZONE}, InvalidOptionError),
        ("conformance.act", {"tenantId": "acme", "action": "echo"}, {"max_attempts": 0}, InvalidOptionError),
        ("conformance.act", {"tenantId": "acme", "action": "echo"}, {"colour": "red"}, InvalidOptionError),
    ],
)  # fmt: skip
def test_a_bad_send_is_refused(provider_client, event, payload, options, error):
    with pytest.raises(error):
        provider_client.send(event, payload, **options)


def test_a_batch_is_all_or_nothing(provider_client, tmp_path):
    effects = tmp_path / "effects"
    good = Act(tenant_id="acme", action="append", argument=f"{effects}|ran")
    with pytest.raises(UnknownTenantError) as caught:
        provider_client.send_batch([good, Act(tenant_id="nobody", action="echo")])
    assert "item 1" in caught.value.__notes__[0]
    assert provider_client.trigger_and_wait(Act(tenant_id="acme", action="echo")).success
    assert not effects.exists()


# The way of a run


def test_a_run_completes_with_its_result(run):
    status = run("echo", "größer 🦊 \0")
    assert (status.state, status.result, status.attempt, status.errors) == ("completed", "größer 🦊 \0", 1, [])
    assert status.payload == {"tenantId": "acme", "action": "echo", "argument": "größer 🦊 \0"}


def test_a_run_is_running_while_its_job_runs(provider_client, blocked):
    status = provider_client.get_run_status(blocked.id)
    assert (status.state, status.attempt, status.closed_at) == ("running", 1, None)


def test_the_times_of_a_run_are_in_order(run):
    status = run("echo")
    assert status.created_at <= status.started_at <= status.closed_at <= datetime.now(UTC)


def test_a_job_knows_its_attempt_and_its_job(run, engine):
    assert run("attempt", max_attempts=5).result == [1, 5, "conformance-act", "conformance.act"]


@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_a_job_runs_in_its_tenants_context(run, tenant):
    assert run("tenant", tenant=tenant).result == [tenant, tenant]


def test_an_async_job_runs_in_its_tenants_context(provider_client):
    assert provider_client.trigger_and_wait(Async(tenant_id="globex")).unwrap() == "globex"


def test_a_delayed_run_is_scheduled_and_then_runs(provider_client, wait_for):
    handle = provider_client.send(Act(tenant_id="acme", action="echo"), delay=0.4)
    scheduled = provider_client.get_run_status(handle.id)
    status = wait_for(handle.id)
    assert (scheduled.state, status.state) == ("scheduled", "completed")
    assert status.started_at >= scheduled.run_at


def test_an_event_without_a_job_is_unhandled(provider_client, wait_for, engine):
    status = wait_for(provider_client.send(Nobody(tenant_id="acme")).id)
    assert (status.state, status.error_code) == ("unhandled", "NO_JOB")


def test_a_run_that_did_not_start_in_time_expires(provider_client, wait_for, engine):
    handle = provider_client.send(Act(tenant_id="acme", action="echo"), delay=60, expires=0.2)
    status = wait_for(handle.id)
    assert (status.state, status.error_code, status.attempt) == ("expired", "EXPIRED", 0)


def test_a_result_that_is_not_json_fails_the_run(run):
    status = run("not_json")
    assert (status.state, status.error_code) == ("failed", "INVALID_RESULT")


def test_a_result_that_is_too_large_is_left_out_and_the_run_completes(run):
    status = run("too_large")
    assert (status.state, status.attempt) == ("completed", 1)
    assert "was not kept" in status.result


# Failure


def test_a_failing_run_is_tried_again_until_it_succeeds(run, engine):
    status = run("fail_until", "3")
    assert (status.state, status.result, status.attempt) == ("completed", 3, 3)
    assert [error["attempt"] for error in status.errors] == [1, 2]


def test_a_run_fails_when_its_attempts_are_used_up(run, engine):
    status = run("fail", "broken", max_attempts=2)
    assert (status.state, status.attempt, len(status.errors)) == ("failed", 2, 2)
    assert (status.error["type"], status.error["message"]) == ("ValueError", "broken")
    assert "ValueError: broken" in status.error["traceback"]


def test_a_permanent_error_fails_the_run_at_once(run):
    status = run("fail_permanently", "no such account")
    assert (status.state, status.attempt, status.error_code) == ("failed", 1, "NO_ACCOUNT")


def test_the_waits_between_attempts_grow_as_the_job_says(provider_client, wait_for, engine):
    status = wait_for(provider_client.send(Backoff(tenant_id="acme")).id)
    at = [datetime.fromisoformat(error["at"]) for error in status.errors]
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(at)]
    assert [0.3 <= waits[0] < 3, 0.9 <= waits[1] < 5] == [True, True], waits


def test_a_run_is_retrying_while_it_waits_for_its_next_attempt(provider_client, wait_for, engine):
    status = wait_for(provider_client.send(Backoff(tenant_id="acme")).id, "retrying")
    assert (status.attempt >= 1, status.run_at > status.started_at, status.closed_at) == (True, True, None)


def test_a_job_that_says_how_long_to_wait_is_heard(provider_client, wait_for, engine):
    status = wait_for(provider_client.send(RetryAfter(tenant_id="acme")).id)
    failed_at = datetime.fromisoformat(status.errors[0]["at"])
    assert (status.result, (status.started_at - failed_at).total_seconds() >= 0.45) == ("done", True)


def test_a_snooze_uses_no_attempt(run, tmp_path):
    status = run("snooze_once", str(tmp_path / "flag"), max_attempts=1)
    assert (status.state, status.result, status.errors) == ("completed", 1, [])


@pytest.mark.parametrize("event", [Slow(tenant_id="acme"), Async(tenant_id="acme", seconds=10)], ids=["def", "async"])
def test_a_job_that_takes_too_long_is_stopped(provider_client, wait_for, event):
    status = wait_for(provider_client.send(event).id)
    assert (status.state, status.error_code) == ("failed", "TIMEOUT")


# Several jobs of one event


def test_an_event_with_two_jobs_has_a_child_run_of_each(provider_client, wait_for, engine):
    parent = wait_for(provider_client.send(Two(tenant_id="acme")).id)
    children = {job: provider_client.get_run_status(run_id) for job, run_id in parent.result.items()}
    assert (parent.state, set(children)) == ("completed", {"conformance-first", "conformance-second"})
    assert {child.parent_id for child in children.values()} == {parent.id}
    assert {job: child.job for job, child in children.items()} == {job: job for job in children}


def test_a_failed_child_fails_its_parent_and_not_its_sibling(provider_client, wait_for, engine):
    parent = wait_for(provider_client.send(Two(tenant_id="acme", second_fails=True)).id)
    assert (parent.state, parent.error_code, parent.result["conformance-second"]) == ("failed", "SECOND_FAILED", None)
    assert provider_client.get_run_status(parent.result["conformance-first"]).state == "completed"


def test_the_replay_of_a_child_runs_only_its_job(provider_client, wait_for, engine):
    parent = wait_for(provider_client.send(Two(tenant_id="acme")).id)
    replay = wait_for(provider_client.retry(parent.result["conformance-first"]).id)
    assert (replay.state, replay.job, replay.result) == ("completed", "conformance-first", replay.id)


# Cancelling and replaying


def test_a_scheduled_run_can_be_cancelled(provider_client):
    handle = provider_client.send(Act(tenant_id="acme", action="echo"), delay=60)
    assert (provider_client.cancel(handle.id).state, provider_client.get_run_status(handle.id).attempt) == (
        "cancelled",
        0,
    )


def test_a_run_that_runs_is_interrupted_when_it_is_cancelled(provider_client, wait_for, tmp_path):
    never = tmp_path / "never"
    handle = provider_client.send(Act(tenant_id="acme", action="wait_for_file", argument=str(never)))
    wait_for(handle.id, "running")
    provider_client.cancel(handle.id)
    assert wait_for(handle.id).state == "cancelled"


def test_a_later_attempt_goes_on_at_the_cursor_of_the_earlier_one(run):
    assert run("pages").result == [[1, 2], [3]]


def test_a_closed_run_cannot_be_cancelled(provider_client, run):
    with pytest.raises(RunStateError, match="it is completed"):
        provider_client.cancel(run("echo").id)


def test_a_closed_run_is_replayed_as_a_new_one(provider_client, wait_for, run):
    failed = run("fail_permanently", "x")
    replay = wait_for(provider_client.retry(failed.id).id)
    assert (replay.state, replay.payload, replay.id != failed.id) == ("failed", failed.payload, True)


def test_a_replay_names_the_run_that_it_repeats(provider_client, wait_for, run, engine):
    failed = run("fail_permanently", "x")
    assert wait_for(provider_client.retry(failed.id).id).replay_of == failed.id


def test_an_open_run_cannot_be_replayed(provider_client, blocked):
    with pytest.raises(RunStateError, match="it is running"):
        provider_client.retry(blocked.id)


@pytest.mark.parametrize("action", ["get_run_status", "cancel", "retry"])
def test_an_unknown_run_is_an_error(provider_client, action):
    with pytest.raises(UnknownRunError):
        getattr(provider_client, action)("0198c0de-0000-7000-8000-000000000000")


# Idempotency keys


def test_a_key_that_comes_again_with_its_payload_returns_the_first_run(provider_client):
    event = Act(tenant_id="acme", action="echo", argument="key")
    handles = [provider_client.send(event, idempotency_key="k-1") for _ in range(2)]
    assert ([handle.deduplicated for handle in handles], handles[0].id) == ([False, True], handles[1].id)


def test_a_key_that_comes_again_with_another_payload_is_refused(provider_client):
    provider_client.send(Act(tenant_id="acme", action="echo"), idempotency_key="k-2")
    with pytest.raises(IdempotencyConflictError):
        provider_client.send(Act(tenant_id="acme", action="attempt"), idempotency_key="k-2")


def test_a_key_belongs_to_one_tenant(provider_client):
    handles = [
        provider_client.send(Act(tenant_id=tenant, action="echo"), idempotency_key="k-3")
        for tenant in ("acme", "globex")
    ]
    assert [handle.deduplicated for handle in handles] == [False, False]


def test_a_key_twice_in_a_batch_makes_one_run(provider_client):
    item = SendItem(Act(tenant_id="acme", action="echo"), options=SendOptions(idempotency_key="k-4"))
    first, second = provider_client.send_batch([item, item])
    assert (second.id, second.deduplicated) == (first.id, True)


# Waiting


def test_waiting_for_a_result(provider_client):
    result = provider_client.trigger_and_wait(Act(tenant_id="acme", action="echo", argument="hello"))
    assert (result.success, result.unwrap()) == (True, "hello")


def test_waiting_for_a_failure(provider_client):
    result = provider_client.trigger_and_wait(Act(tenant_id="acme", action="fail_permanently", argument="gone"))
    assert (result.success, result.code, result.message) == (False, "NO_ACCOUNT", "gone")
    with pytest.raises(RunFailedError, match="gone"):
        result.unwrap()


def test_waiting_too_short(provider_client):
    result = provider_client.trigger_and_wait(Act(tenant_id="acme", action="echo"), timeout=0.05, delay=60)
    assert (result.timed_out, result.code) == (True, "TIMEOUT")
    with pytest.raises(WaitTimeoutError):
        result.unwrap()


# The provider itself


def test_a_provider_that_works_says_so(provider_client):
    health = provider_client.health_check()
    assert (health.healthy, health.error, provider_client.is_configured()) == (True, None, True)
    assert provider_client.provider.version


# Any number of sends, in chunks


def test_chunks_give_a_result_for_each_item_in_their_order(provider_client, wait_for):
    items = (Act(tenant_id="acme", action="echo", argument=str(number)) for number in range(5))
    sent = list(provider_client.send_in_chunks(items, chunk_size=2))
    assert [one.position for one in sent] == [0, 1, 2, 3, 4]
    assert [wait_for(one.handle.id).payload["argument"] for one in sent] == ["0", "1", "2", "3", "4"]


def test_a_chunk_with_a_wrong_item_is_not_sent_and_the_others_are(provider_client):
    good = Act(tenant_id="acme", action="echo")
    wrong = Act(tenant_id="nobody", action="echo")
    sent = list(provider_client.send_in_chunks([good, good, good, wrong, good], chunk_size=2))
    assert [type(one.error) for one in sent] == [
        type(None),
        type(None),
        ChunkRefusedError,
        UnknownTenantError,
        type(None),
    ]
    assert sent[2].error.item == sent[3].error.item == 3


def test_a_chunk_with_a_key_that_has_another_payload_names_its_item(provider_client):
    key = SendOptions(idempotency_key="chunk-conflict")
    provider_client.send(Act(tenant_id="acme", action="echo", argument="1"), idempotency_key="chunk-conflict")
    conflict = SendItem(Act(tenant_id="acme", action="echo", argument="2"), options=key)
    sent = list(provider_client.send_in_chunks([SendItem(Act(tenant_id="acme", action="echo")), conflict]))
    assert isinstance(sent[1].error, IdempotencyConflictError)
    assert isinstance(sent[0].error, ChunkRefusedError)


def test_no_more_than_a_chunk_is_taken_before_its_results_are_asked_for(provider_client):
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield Act(tenant_id="acme", action="echo")

    results = provider_client.send_in_chunks(items(), chunk_size=3)
    assert taken == []
    next(results)
    assert taken == [0, 1, 2]


def test_a_chunk_holds_at_least_one_item(provider_client):
    with pytest.raises(InvalidOptionError, match="chunk_size"):
        provider_client.send_in_chunks([], chunk_size=0)
