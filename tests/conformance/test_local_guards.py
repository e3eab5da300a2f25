"""Guards of the local provider: they close and open in this process."""

import pytest

from cgk_tasks import JobContext, RetryConfig, RetryLater, create_job_client, define_guard, define_job
from cgk_tasks.errors import TransientError
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.guards import remove_guard
from cgk_tasks.jobs.registry import find_job, remove_job
from cgk_tasks.testing import run_job
from tests.support.waiting import wait_until

PROBE_SECONDS = 0.3


class Ask(TenantEvent, event="local.ask"):
    pass


class Partner:
    """Answers as it is told. calls: how often it was called."""

    def __init__(self):
        self.calls = 0
        self.error = None

    def __call__(self, _ctx: JobContext[Ask]) -> str:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "ok"


@pytest.fixture
def partner(environment):
    asked = Partner()
    define_guard("local-partner", at_once=2, probe_after=PROBE_SECONDS)
    retry = RetryConfig(max_attempts=20, initial_delay=0.01, jitter=False)

    @define_job("local-ask", event=Ask, uses=["local-partner"], retry=retry)
    def ask(ctx):
        return asked(ctx)

    yield asked
    remove_job("local-ask")
    remove_guard("local-partner")


@pytest.fixture
def client(partner):
    made = create_job_client(provider="local", concurrency=1)
    yield made
    made.close()


def send(client):
    return client.send(Ask(tenant_id="acme")).id


def status(client, run):
    return client.get_run_status(run)


def test_a_run_that_is_told_to_wait_goes_on_after_it_without_an_attempt(client, partner):
    partner.error = TransientError("busy", "RATE_LIMITED", retry_after=0.3)
    run = send(client)
    wait_until(lambda: partner.calls == 1 and status(client, run).state == "retrying")
    partner.error = None
    wait_until(lambda: status(client, run).state == "completed")
    assert (status(client, run).attempt, status(client, run).errors, partner.calls) == (1, [], 2)


def test_the_others_do_not_call_meanwhile(client, partner):
    partner.error = TransientError("busy", "RATE_LIMITED", retry_after=0.5)
    first = send(client)
    wait_until(lambda: status(client, first).state == "retrying")
    partner.error = None
    second = send(client)
    wait_until(lambda: status(client, second).state == "retrying")
    assert partner.calls == 1
    wait_until(lambda: status(client, second).state == "completed")
    assert status(client, second).attempt == 1


def test_five_failures_close_it_and_one_run_that_gets_through_opens_it(client, partner):
    partner.error = TransientError("away")
    run = send(client)
    wait_until(lambda: partner.calls == 5)
    wait_until(lambda: partner.calls == 6, timeout=10 * PROBE_SECONDS + 5)
    partner.error = None
    wait_until(lambda: status(client, run).state == "completed")


def test_clients_do_not_share_their_guards(client, partner):
    partner.error = TransientError("busy", "RATE_LIMITED", retry_after=60)
    first = send(client)
    wait_until(lambda: status(client, first).state == "retrying")
    partner.error = None
    other = create_job_client(provider="local")
    try:
        assert other.trigger_and_wait(Ask(tenant_id="acme")).success
    finally:
        other.close()


def test_a_job_that_is_run_by_a_test_keeps_no_guard(partner):
    partner.error = TransientError("busy", "RATE_LIMITED", retry_after=60)
    job = find_job("local-ask").handler
    for _ in range(2):
        with pytest.raises(RetryLater):
            run_job(job, Ask(tenant_id="acme"))
    assert partner.calls == 2
