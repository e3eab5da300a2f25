"""Workflows come to the same end with workers and in this process."""

from pathlib import Path

import pytest

from cgk_tasks.config import get_settings
from cgk_tasks.errors import PayloadTooLargeError, RunStateError
from cgk_tasks.flow.awaited_events import AWAITED
from tests.conformance.workflow_jobs import Courier, Crowd, Pair, Ping, Relay
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("engine")

NOTE = "The result was not kept: it has 300002 bytes, more than 262144."


def test_a_workflow_is_given_the_note_in_place_of_a_result_that_was_too_large(provider_client, wait_for):
    assert wait_for(provider_client.send(Courier(tenant_id="acme", how="large")).id).result == NOTE


def test_so_is_who_asks_for_the_results_of_several_jobs(provider_client, wait_for):
    results = {"pair-small": "x", "pair-large": NOTE}
    assert wait_for(provider_client.send(Pair(tenant_id="acme")).id).result == results
    assert wait_for(provider_client.send(Courier(tenant_id="acme", how="pair")).id).result == results


def test_a_child_run_does_not_continue_as_another_one(provider_client, wait_for):
    run = wait_for(provider_client.send(Courier(tenant_id="acme", how="relay")).id)
    assert (run.state, run.error_code) == ("failed", "CANNOT_CONTINUE_AS_NEW")


def test_the_child_that_was_late_is_the_same_in_a_replay(provider_client, wait_for):
    run = wait_for(provider_client.send(Courier(tenant_id="acme")).id)
    assert provider_client.get_run_status(run.result).parent_id == run.id
    assert wait_for(provider_client.retry(run.id, from_step="after").id).result == run.result


def test_results_that_are_too_much_together_fail_the_step_once(provider_client, wait_for, tmp_path):
    legs = tmp_path / "legs"
    run = wait_for(provider_client.send(Crowd(tenant_id="acme", legs=str(legs))).id)
    assert (run.state, run.result) == ("completed", ["parcels", "RESULT_TOO_LARGE"])
    assert len(Path(legs).read_text(encoding="ascii").splitlines()) == 3


def test_a_key_that_was_used_for_a_run_is_free_for_the_one_that_continues_it(provider_client, wait_for):
    first = provider_client.send(Relay(tenant_id="acme"))
    assert provider_client.signal(first.id, "go", 1, key="once")
    following = wait_for(first.id).result["continuedAs"]
    assert provider_client.signal(following, "go", 2, key="once")
    assert wait_for(following).result == 2


def test_the_event_that_began_a_run_is_none_that_it_waits_for(provider_client, wait_for):
    if provider_client.provider.name == "celery":
        wait_until(lambda: "conformance.ping" in AWAITED.current().current(), 20)
    assert wait_for(provider_client.send(Ping(tenant_id="acme", key="alone")).id).result is False
    waits = provider_client.send(Ping(tenant_id="acme", key="both"))
    provider_client.send(Ping(tenant_id="acme", key="both"))
    assert wait_for(waits.id).result is True


def test_a_step_that_puts_itself_off_uses_no_attempt(provider_client, wait_for, tmp_path):
    run = wait_for(provider_client.send(Courier(tenant_id="acme", how="put off", notes=str(tmp_path / "asked"))).id)
    assert (run.result, run.attempt) == (3, 1)


def test_an_open_run_cannot_be_replayed_from_a_step(provider_client, wait_for):
    run = provider_client.send(Relay(tenant_id="acme"), delay=3600)
    with pytest.raises(RunStateError, match="it is scheduled"):
        provider_client.retry(run.id, from_step="nothing")
    provider_client.cancel(run.id)


def test_a_payload_that_is_too_large_continues_nothing(provider_client, wait_for):
    run = wait_for(provider_client.send("conformance.spread", {"tenantId": "acme"}).id)
    most = get_settings().max_payload_bytes
    assert (run.state, run.result) == ("completed", [PayloadTooLargeError.__name__, most])
