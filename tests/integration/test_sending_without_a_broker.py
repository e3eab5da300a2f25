"""Sends keep working while the broker is down; what was accepted runs when it is back."""

import time

import pytest

from cgk_tasks import SendItem, get_job_client, send_job, send_jobs
from cgk_tasks.errors import BrokerError
from tests.support.jobs import Behave
from tests.support.tenancy_jobs import ProbeTelemetry
from tests.support.waiting import busyness, wait_closed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("worker_on_own_broker")]


@pytest.fixture
def broker_down(own_broker):
    own_broker.stop()
    yield own_broker
    if not own_broker.running:
        own_broker.start()


def echo(argument):
    return Behave(tenant_id="acme", action="echo", argument=argument)


def test_what_is_sent_while_the_broker_is_down_runs_when_it_is_back(broker_down):
    single = send_job(echo("single"))
    batch = send_jobs([echo("first"), SendItem(echo("second"))])
    broker_down.start()
    assert [wait_closed(handle.id, 60).result for handle in (single, *batch)] == ["single", "first", "second"]


def test_a_send_stays_quick_while_the_broker_is_down(broker_down):
    begun = time.monotonic()
    for n in range(50):
        send_job(echo(str(n)), delay=None)
    assert time.monotonic() - begun < 5 * busyness()


def test_telemetry_is_refused_while_the_broker_is_down(broker_down):
    with pytest.raises(BrokerError):
        send_job(ProbeTelemetry(tenant_id="acme", key="lost"))


def test_the_health_check_says_what_is_wrong(broker_down):
    health = get_job_client().health_check()
    assert (health.healthy, "Redis" in health.error) == (False, True)
