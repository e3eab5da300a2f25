"""Every event of the catalog goes through a real worker once, with its payload intact."""

import json

import pytest

from cgk_tasks import SendItem, send_jobs, tenant_cache, tenant_context
from cgk_tasks.events import EVENT_CATEGORIES, TOTAL_EVENT_COUNT, get_event
from tests.support.examples import example
from tests.support.waiting import wait_closed, wait_until

NAMES = [name for names in EVENT_CATEGORIES.values() for name in names]


@pytest.fixture(scope="module")
def sent(start_worker):
    """The handle of one run of each event."""
    start_worker(["tests.support.echo_jobs"])
    return dict(zip(NAMES, send_jobs(SendItem(name, example(name, "acme")) for name in NAMES), strict=True))


@pytest.mark.parametrize("name", [name for name in NAMES if get_event(name).durable])
def test_an_event_arrives_as_it_was_sent(sent, name):
    status = wait_closed(sent[name].id)
    assert (status.state, status.attempt, status.event) == ("completed", 1, name)
    assert status.payload == example(name, "acme")
    assert status.result == example(name, "acme")


@pytest.mark.parametrize("name", [name for name in NAMES if not get_event(name).durable])
def test_a_telemetry_event_arrives_as_it_was_sent(sent, name):
    with tenant_context("acme"):
        arrived = wait_until(lambda: tenant_cache().get(f"echo:{name}"))
    assert json.loads(arrived) == example(name, "acme")


def test_every_event_of_the_catalog_was_sent(sent):
    assert len(sent) == TOTAL_EVENT_COUNT
