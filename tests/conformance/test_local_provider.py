"""What only the local provider does: everything happens in this process."""

import threading

import pytest
from sqlalchemy.orm import Session

from cgk_tasks import RetryLater, SendItem, SendOptions, create_job_client
from cgk_tasks.errors import ConfigurationError, InvalidOptionError, QueueFullError, UnknownRunError
from tests.conformance.jobs import Act, Nobody
from tests.support.waiting import wait_until


@pytest.fixture
def make_client(environment):
    """`make_client(concurrency=1)`; closed after the test."""
    made = []

    def make(**settings):
        made.append(create_job_client(provider="local", **settings))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def gate():
    """Jobs that call `gate.wait(5)` go on when the test says `gate.set()`."""
    event = threading.Event()
    yield event
    event.set()


def test_a_handler_can_be_registered_in_place(make_client):
    client = make_client()
    client.register_handler("conformance.nobody", lambda ctx: f"for {ctx.tenant_id}")
    assert client.trigger_and_wait(Nobody(tenant_id="acme")).unwrap() == "for acme"


def test_a_handler_belongs_to_its_client(make_client):
    make_client().register_handler("conformance.nobody", lambda ctx: "other")
    result = make_client().trigger_and_wait(Nobody(tenant_id="acme"))
    assert result.code == "NO_JOB"


def test_any_well_formed_tenant_is_known_when_none_are_named(make_client):
    assert make_client().trigger_and_wait(Act(tenant_id="whoever", action="echo")).success


def test_the_most_urgent_run_is_next(make_client, gate):
    client, order, started = make_client(concurrency=1), [], threading.Event()

    def handler(ctx):
        if not started.is_set():
            started.set()
            gate.wait(5)
        order.append(ctx.tenant_id)

    client.register_handler("conformance.nobody", handler)
    client.send(Nobody(tenant_id="first"))
    assert started.wait(5)
    for tenant, priority in (("low", 1), ("high", 9), ("normal", 5), ("high-too", 9)):
        client.send(Nobody(tenant_id=tenant), priority=priority)
    gate.set()
    wait_until(lambda: len(order) == 5)
    assert order == ["first", "high", "high-too", "normal", "low"]


def test_no_more_jobs_run_at_once_than_allowed(make_client, gate):
    client, running, most = make_client(concurrency=2), [], []

    def handler(ctx):
        running.append(ctx.run_id)
        most.append(len(running))
        gate.wait(0.05)
        running.remove(ctx.run_id)

    client.register_handler("conformance.nobody", handler)
    handles = client.send_batch([Nobody(tenant_id="acme")] * 6)
    assert wait_until(lambda: all(client.get_run_status(handle.id).is_closed for handle in handles))
    assert max(most) <= 2


def test_a_full_queue_refuses_more_and_takes_none_of_a_batch(make_client):
    client = make_client(max_queue_size=3)
    for _ in range(2):
        client.send(Nobody(tenant_id="acme"), delay=60)
    with pytest.raises(QueueFullError, match="3 runs"):
        client.send_batch([SendItem(Nobody(tenant_id="acme"), options=SendOptions(delay=60))] * 2)
    assert client.send(Nobody(tenant_id="acme"), delay=60).id


def test_a_key_of_a_send_that_found_the_queue_full_is_free(make_client):
    client = make_client(max_queue_size=1)
    blocking = client.send(Nobody(tenant_id="acme"), delay=60)
    with pytest.raises(QueueFullError):
        client.send(Nobody(tenant_id="acme"), idempotency_key="k")
    client.cancel(blocking.id)
    assert not client.send(Nobody(tenant_id="acme"), idempotency_key="k").deduplicated


def test_old_closed_runs_are_forgotten(make_client):
    client = make_client(max_closed_runs=2)
    ids = [client.trigger_and_wait(Nobody(tenant_id="acme")).run_id for _ in range(3)]
    with pytest.raises(UnknownRunError):
        client.get_run_status(ids[0])
    assert client.get_run_status(ids[2]).state == "unhandled"


def test_a_running_job_is_not_interrupted_but_does_not_run_again(make_client, gate):
    client, attempts, started = make_client(), [], threading.Event()

    def handler(ctx):
        attempts.append(ctx.attempt)
        started.set()
        gate.wait(5)
        raise RetryLater(0)

    client.register_handler("conformance.nobody", handler)
    handle = client.send(Nobody(tenant_id="acme"))
    assert started.wait(5)
    assert client.cancel(handle.id).state == "running"
    gate.set()
    assert wait_until(lambda: client.get_run_status(handle.id).is_closed)
    assert (client.get_run_status(handle.id).state, attempts) == ("cancelled", [1])


def test_a_closed_client_waits_for_running_jobs_and_takes_no_more(make_client):
    client, done = make_client(), []
    started = threading.Event()

    def handler(ctx):
        started.set()
        threading.Event().wait(0.1)
        done.append(ctx.run_id)

    client.register_handler("conformance.nobody", handler)
    handle = client.send(Nobody(tenant_id="acme"))
    assert started.wait(5)
    client.close()
    assert done == [handle.id]
    with pytest.raises(ConfigurationError, match="was closed"):
        client.send(Nobody(tenant_id="acme"))
    assert not client.health_check().healthy


def test_a_session_is_refused_because_there_is_no_database_to_join(make_client):
    with pytest.raises(InvalidOptionError, match="celery provider"):
        make_client().send(Nobody(tenant_id="acme"), session=Session())


@pytest.mark.parametrize("settings", [{"concurrency": 0}, {"max_queue_size": 0}])
def test_a_setting_out_of_its_range_is_refused(make_client, settings):
    with pytest.raises(InvalidOptionError, match="at least 1"):
        make_client(**settings)


def test_an_unknown_setting_is_refused(make_client):
    with pytest.raises(ConfigurationError, match="colour"):
        make_client(colour="red")
