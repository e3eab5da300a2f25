"""What rules of jobs make of sends, the same wherever jobs are run by us."""

import os
from datetime import timedelta

import pytest

from cgk_tasks import SendItem, SendOptions
from cgk_tasks.errors import InvalidOptionError
from tests.conformance.jobs import Counted, Edited, Fed, Gathered, Refresh, Sync, Typed

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def key():
    """A value of a key that no other test has."""
    return os.urandom(4).hex()


def outcomes(handles):
    return [handle.outcome for handle in handles]


# Singleton


@pytest.fixture
def blocked(provider_client, tmp_path, wait_for, key):
    """A run of the key that is on until the test ends."""
    path = tmp_path / "go"
    handle = provider_client.send(Sync(tenant_id="acme", shop_id=key, path=str(path)))
    wait_for(handle.id, "running")
    yield handle
    path.touch()
    wait_for(handle.id)


def test_a_send_is_skipped_while_a_run_of_its_key_is_open(provider_client, blocked, key):
    second = provider_client.send(Sync(tenant_id="acme", shop_id=key))
    assert (blocked.outcome, second.outcome, second.id) == ("accepted", "skipped", blocked.id)


def test_other_keys_and_tenants_have_runs_of_their_own(provider_client, blocked, key):
    others = [
        Sync(tenant_id="acme", shop_id=key + "x"),
        Sync(tenant_id="acme"),
        Sync(tenant_id="globex", shop_id=key),
    ]
    assert outcomes(map(provider_client.send, others)) == ["accepted"] * 3


def test_a_run_that_has_ended_is_in_nobodys_way(provider_client, wait_for, key):
    event = Sync(tenant_id="acme", shop_id=key)
    first = wait_for(provider_client.send(event).id)
    second = provider_client.send(event)
    assert (second.outcome, second.id != first.id) == ("accepted", True)


def test_a_replay_is_made_in_any_case(provider_client, wait_for, key):
    event = Sync(tenant_id="acme", shop_id=key)
    ended = wait_for(provider_client.send(event).id)
    open_run = provider_client.send(event, delay=60)
    assert provider_client.retry(ended.id).outcome == "accepted"
    provider_client.cancel(open_run.id)


def test_two_of_one_key_in_a_batch_make_one_run(provider_client, key):
    first, second = provider_client.send_batch([Sync(tenant_id="acme", shop_id=key)] * 2)
    assert (outcomes([first, second]), second.id) == (["accepted", "skipped"], first.id)


def test_the_newest_send_cancels_a_run_that_waits(provider_client, wait_for, key):
    old = provider_client.send(Refresh(tenant_id="acme", shop_id=key), delay=60)
    new = provider_client.send(Refresh(tenant_id="acme", shop_id=key))
    assert (wait_for(old.id).state, wait_for(new.id).state) == ("cancelled", "completed")


def test_the_newest_send_cancels_a_run_that_is_on(provider_client, wait_for, tmp_path, key):
    old = provider_client.send(Refresh(tenant_id="acme", shop_id=key, path=str(tmp_path / "never")))
    wait_for(old.id, "running")
    new = provider_client.send(Refresh(tenant_id="acme", shop_id=key))
    assert (wait_for(old.id).state, wait_for(new.id).state) == ("cancelled", "completed")


def test_a_send_that_was_skipped_does_not_use_up_its_idempotency_key(provider_client, wait_for, key):
    first = provider_client.send(Sync(tenant_id="acme", shop_id=key), delay=60)
    options = {"idempotency_key": key}
    skipped = provider_client.send(Sync(tenant_id="acme", shop_id=key), **options)
    provider_client.cancel(first.id)
    assert (skipped.outcome, provider_client.send(Sync(tenant_id="acme", shop_id=key), **options).outcome) == (
        "skipped",
        "accepted",
    )


# Debounce


def test_sends_that_follow_each_other_make_one_run_with_the_last_payload(provider_client, wait_for, key):
    handles = [provider_client.send(Edited(tenant_id="acme", doc_id=key, text=text)) for text in "abc"]
    run = wait_for(handles[0].id)
    assert (outcomes(handles), len({handle.id for handle in handles})) == (["accepted", "merged", "merged"], 1)
    assert (run.state, run.result, run.payload["text"]) == ("completed", "c", "c")


def test_the_run_comes_after_the_pause(provider_client, wait_for, key):
    run = wait_for(provider_client.send(Edited(tenant_id="acme", doc_id=key)).id)
    assert run.started_at - run.created_at >= timedelta(seconds=0.45)


def test_the_time_to_live_counts_from_when_the_pause_is_over(provider_client, key):
    run = provider_client.get_run_status(provider_client.send(Edited(tenant_id="acme", doc_id=key)).id)
    assert run.expires_at - run.run_at == timedelta(seconds=60)


def test_a_send_after_the_run_has_begun_makes_the_next_one(provider_client, wait_for, key):
    first = wait_for(provider_client.send(Edited(tenant_id="acme", doc_id=key)).id)
    second = provider_client.send(Edited(tenant_id="acme", doc_id=key))
    assert (second.outcome, second.id != first.id) == ("accepted", True)


def test_the_run_is_due_at_most_so_long_after_the_first_send(provider_client, key):
    first, _ = (provider_client.send(Typed(tenant_id="acme", doc_id=key)) for _ in range(2))
    run = provider_client.get_run_status(first.id)
    assert run.run_at - run.created_at <= timedelta(seconds=60)
    provider_client.cancel(first.id)


def test_those_of_one_batch_are_one_run(provider_client, wait_for, key):
    handles = provider_client.send_batch([Edited(tenant_id="acme", doc_id=key, text=text) for text in "abc"])
    assert (outcomes(handles), wait_for(handles[0].id).result) == (["accepted", "merged", "merged"], "c")


@pytest.mark.parametrize(
    "event", [Edited(tenant_id="acme", doc_id="d"), Counted(tenant_id="acme", basket="b", number=1)]
)
def test_a_time_cannot_be_given_where_a_rule_says_it(provider_client, event):
    with pytest.raises(InvalidOptionError, match="of its job says when its runs are due"):
        provider_client.send(event, delay=60)


def test_a_key_of_a_merged_send_leads_to_its_run(provider_client, wait_for, key):
    first = provider_client.send(Edited(tenant_id="acme", doc_id=key, text="a"))
    second = Edited(tenant_id="acme", doc_id=key, text="b")
    sent = [provider_client.send(second, idempotency_key=key) for _ in range(2)]
    assert (outcomes(sent), {handle.id for handle in sent}) == (["merged", "deduplicated"], {first.id})


# RateLimit


def test_the_excess_makes_no_run(provider_client, key):
    handles = [provider_client.send(Fed(tenant_id="acme", feed_id=key)) for _ in range(3)]
    assert outcomes(handles) == ["accepted", "accepted", "skipped"]


def test_the_excess_of_a_batch_makes_no_run(provider_client, key):
    handles = provider_client.send_batch([Fed(tenant_id="acme", feed_id=key)] * 3)
    assert outcomes(handles) == ["accepted", "accepted", "skipped"]


def test_each_key_has_its_own_limit(provider_client, key):
    handles = [provider_client.send(Fed(tenant_id="acme", feed_id=key + end)) for end in "aab"]
    assert outcomes(handles) == ["accepted"] * 3


def test_who_waits_for_a_send_that_was_not_accepted_is_told(provider_client, key):
    provider_client.send_batch([Fed(tenant_id="acme", feed_id=key)] * 2)
    waited = provider_client.trigger_and_wait(Fed(tenant_id="acme", feed_id=key))
    assert (waited.success, waited.code) == (False, "SKIPPED")


# Batch


def test_sends_become_one_run_with_all_of_their_events_in_order(provider_client, wait_for, key):
    handles = [provider_client.send(Gathered(tenant_id="acme", basket=key, number=n)) for n in range(4)]
    run = wait_for(handles[0].id)
    assert outcomes(handles) == ["accepted", "merged", "merged", "merged"]
    assert (run.state, run.result, len({handle.id for handle in handles})) == ("completed", [0, 1, 2, 3], 1)


def test_a_full_run_starts_at_once(provider_client, wait_for, key):
    first, *_ = [provider_client.send(Counted(tenant_id="acme", basket=key, number=n)) for n in range(3)]
    assert wait_for(first.id).result == [0, 1, 2]


def test_the_one_that_comes_after_a_full_run_begins_another(provider_client, wait_for, key):
    handles = [provider_client.send(Counted(tenant_id="acme", basket=key, number=n)) for n in range(4)]
    assert (handles[3].outcome, handles[3].id != handles[0].id) == ("accepted", True)
    provider_client.cancel(handles[3].id)


def test_many_sent_together_are_runs_of_as_many_as_fit(provider_client, wait_for, key):
    events = [Counted(tenant_id="acme", basket=key, number=n) for n in range(7)]
    handles = provider_client.send_batch(events)
    assert outcomes(handles) == ["accepted", "merged", "merged"] * 2 + ["accepted"]
    assert [wait_for(handles[n].id).result for n in (0, 3)] == [[0, 1, 2], [3, 4, 5]]
    provider_client.cancel(handles[6].id)


def test_what_does_not_fit_into_an_open_run_begins_the_next(provider_client, wait_for, key):
    first = provider_client.send(Counted(tenant_id="acme", basket=key, number=0))
    more = provider_client.send_batch([Counted(tenant_id="acme", basket=key, number=n) for n in (1, 2)])
    last = provider_client.send_batch([Counted(tenant_id="acme", basket=key, number=n) for n in (3, 4)])
    assert (outcomes([*more, *last]), wait_for(first.id).result) == (
        ["merged", "merged", "accepted", "merged"],
        [0, 1, 2],
    )
    provider_client.cancel(last[0].id)


def test_a_run_that_is_tried_again_has_all_of_its_events(provider_client, wait_for, key):
    events = [Counted(tenant_id="acme", basket=key, number=n, action="fail once") for n in range(3)]
    first, *_ = map(provider_client.send, events)
    run = wait_for(first.id)
    assert (run.attempt, run.result) == (2, [0, 1, 2])


def test_the_record_of_a_run_has_all_of_its_events(provider_client, wait_for, key):
    first, *_ = [provider_client.send(Counted(tenant_id="acme", basket=key, number=n)) for n in range(3)]
    assert [event["number"] for event in wait_for(first.id).payload] == [0, 1, 2]


def test_a_replay_has_them_again(provider_client, wait_for, key):
    first, *_ = [provider_client.send(Counted(tenant_id="acme", basket=key, number=n)) for n in range(3)]
    wait_for(first.id)
    assert wait_for(provider_client.retry(first.id).id).result == [0, 1, 2]


def test_a_key_that_comes_twice_counts_once(provider_client, wait_for, key):
    event = Gathered(tenant_id="acme", basket=key, number=1)
    options = SendOptions(idempotency_key=key)
    handles = provider_client.send_batch(
        [SendItem(Gathered(tenant_id="acme", basket=key, number=0)), SendItem(event, options=options)]
    )
    again = provider_client.send(event, idempotency_key=key)
    assert (again.outcome, again.id) == ("deduplicated", handles[0].id)
    assert wait_for(handles[0].id).result == [0, 1]


def test_each_key_has_a_run_of_its_own(provider_client, key):
    handles = [provider_client.send(Gathered(tenant_id="acme", basket=key + end, number=1)) for end in "ab"]
    assert outcomes(handles) == ["accepted", "accepted"]
