"""Sends to a queue that is crowded wait in lanes, and to one that is not go as ever. No worker lives here."""

import os
from datetime import UTC, datetime, timedelta

import pytest
import redis

from cgk_tasks import SendItem, SendOptions, cancel_job, get_job_status, send_job, send_jobs
from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.passes import Passes
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.broker.envelope import redis_key
from cgk_tasks.broker.packets import RUN_TIMES
from cgk_tasks.flow import accept, lanes
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs import insertion
from cgk_tasks.runs.models import NewRun, new_run_id
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.sql.statements import statements as statements_of
from cgk_tasks.tenancy import tenant_context, tenant_session
from cgk_tasks.worker.dispatcher import Dispatcher
from tests.support.lanes import add_worker, ids_of
from tests.support.observed import observed_statements
from tests.support.share_jobs import Nap
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def queue(database, services, setting):
    """An empty queue, of which this process knows nothing yet; its runs take 0.1 s."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.workers, cgk.run_times")
        connection.execute("INSERT INTO cgk.run_times (event, mean_seconds) VALUES ('shares.nap', 0.1)")
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushdb()
    setting(CGK_WINDOW_SECONDS="0.5")
    forget()
    return os.environ["CGK_DEFAULT_QUEUE"]


def forget():
    """As another process would, which has not sent anything yet."""
    for part in (CROWDED, LANES, SWITCH, RUN_TIMES):
        current_runtime().drop(part)


def states():
    with autocommit() as connection:
        rows = connection.execute("SELECT state, count(*) FROM cgk.runs GROUP BY 1").fetchall()
    return dict(rows)


def send(count=1, tenant="acme", **options):
    return [send_job(Nap(tenant_id=tenant), **options).id for _ in range(count)]


def most_wait(runs=100):
    """Whether the window holds its half of a second of these runs, and all others are held."""
    found = states()
    return found.get("pending", 0) <= 6 and sum(found.values()) == runs


def admitted(passes):
    """What passes admit until nothing waits, in their order; each run is begun at once."""
    with autocommit() as connection:
        begun = "UPDATE cgk.runs SET state = 'running' WHERE state = 'pending' RETURNING id, slot"
        rows = connection.execute(begun).fetchall()
    found = [str(run) for run, slot in sorted(rows, key=lambda row: row[1] or 0) if slot is not None]
    while ids := ids_of(passes.make()):
        found += ids
        with autocommit() as connection:
            connection.execute("UPDATE cgk.runs SET state = 'running' WHERE id = ANY(%s::uuid[])", [ids])
    return found


@pytest.fixture
def passes():
    return Passes({"shares.nap": 0.1}.get)


@pytest.fixture
def statements():
    """The names of those that run in a test."""
    with observed_statements() as found:
        yield found


def test_a_send_to_an_empty_queue_is_one_statement(statements, services, queue):
    send(tenant="globex")
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.delete(redis_key(queue, 5))
    del statements[:]  # what a process looks up once
    send(tenant="globex")
    assert statements == ["transitions.insert_plain"]


def test_what_the_window_does_not_hold_waits_in_lanes(services, queue):
    send(30)
    assert states() == {"pending": 5, "held": 25}  # half a second of work
    with redis.Redis.from_url(services.broker_url) as broker:
        assert broker.llen(redis_key(queue, 5)) == 5


def test_the_window_is_as_long_as_the_workers_are_many(queue):
    add_worker(queue, 4)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET revision = '0019'")
    send(30)
    assert states() == {"pending": 20, "held": 10}


def test_a_full_queue_is_asked_about_once_a_second(statements):
    send(30)
    assert statements.count("admission.crowd") <= 2


def test_held_runs_are_admitted_in_the_order_in_which_they_were_sent(passes):
    sent = send(30)
    assert admitted(passes) == sent[5:]


def test_a_tenant_that_comes_later_is_next(passes):
    send(60)
    late = send(tenant="globex")
    assert admitted(passes).index(late[0]) <= 1


def test_a_bulk_send_larger_than_the_window_waits_in_lanes(passes):
    handles = send_jobs(SendItem(Nap(tenant_id="acme")) for _ in range(100))
    assert most_wait()
    assert admitted(passes) == [handle.id for handle in handles]


def test_a_bulk_send_that_the_window_holds_is_published(setting):
    setting(CGK_WINDOW_SECONDS="60")
    send_jobs(SendItem(Nap(tenant_id="acme")) for _ in range(100))
    assert states() == {"pending": 100}


def test_a_bulk_send_of_few_to_a_crowded_queue_waits_in_lanes():
    send(30)
    send_jobs(SendItem(Nap(tenant_id="globex"), options=SendOptions(idempotency_key=str(n))) for n in range(3))
    assert states() == {"pending": 5, "held": 28}


def test_sends_in_a_transaction_wait_in_lanes_once_it_has_committed(passes):
    with tenant_context("acme"), tenant_session() as session:
        sent = [send_job(Nap(tenant_id="acme"), session=session).id for _ in range(100)]
    assert most_wait()
    assert sorted(admitted(passes)) == sorted(sent)


def test_sends_in_a_transaction_that_is_rolled_back_are_in_no_lane():
    send(30)
    with tenant_context("acme"), tenant_session() as session:
        send_job(Nap(tenant_id="acme"), session=session)
        session.rollback()
    assert states() == {"pending": 5, "held": 25}


def test_runs_that_become_due_together_wait_in_lanes(passes):
    later = datetime.now(UTC) + timedelta(hours=1)
    send_jobs(SendItem(Nap(tenant_id="acme"), options=SendOptions(run_at=later)) for _ in range(100))
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET run_at = now()")
    Dispatcher(new_run_id()).tick()
    assert most_wait()
    assert len(admitted(passes)) == 100


def test_runs_that_the_broker_lost_wait_in_lanes(services, setting):
    setting(CGK_FAIR_QUEUES="")
    send(100)
    setting(CGK_FAIR_QUEUES="*")
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushdb()
    with autocommit() as connection:  # all of them so long ago that nobody is patient any more
        connection.execute("UPDATE cgk.runs SET handed_over_at = handed_over_at - interval '1 minute'")
    wait_until(lambda: (Dispatcher(new_run_id()).tick(), most_wait())[1])


def test_queues_that_are_not_named_are_not_fair(setting):
    setting(CGK_FAIR_QUEUES="another")
    send(30)
    send_jobs(SendItem(Nap(tenant_id="acme")) for _ in range(100))
    assert states() == {"pending": 130}


def test_nothing_is_held_while_a_worker_lives_that_does_not_make_such_passes(queue):
    add_worker(queue, 1)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET revision = '0018'")
    send_jobs(SendItem(Nap(tenant_id="acme")) for _ in range(100))
    assert states() == {"pending": 100}


def test_the_queue_is_not_crowded_any_more_once_its_lanes_are_empty(passes):
    send(30)
    admitted(passes)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs")
    forget()
    send(3)
    assert states() == {"pending": 3}


def test_a_run_whose_sender_died_before_it_told_the_lane_is_found(passes, monkeypatch):
    send(10)
    run = NewRun(new_run_id(), "globex", "shares.nap", '{"tenantId":"globex"}', os.environ["CGK_DEFAULT_QUEUE"])
    with autocommit() as connection:
        insertion.insert(connection, lanes.placed([run]), {})
    assert run.id not in admitted(passes)
    assert passes.sweep() == 1
    assert admitted(passes) == [run.id]


def test_a_held_run_can_be_cancelled_and_those_behind_it_go_on(passes):
    sent = send(10)
    assert cancel_job(sent[7]).state == "cancelled"
    assert admitted(passes) == [*sent[5:7], *sent[8:]]


def test_a_held_run_expires(passes):
    send(10)
    run = send(expires=0.01)[0]
    assert get_job_status(run).state == "held"
    wait_until(lambda: (Dispatcher(new_run_id()).tick(), get_job_status(run).state == "expired")[1])


def test_what_was_admitted_and_published_by_nobody_is_dispatched_again(passes, setting, services):
    setting(CGK_DISPATCH_PATIENCE_SECONDS="0.1")
    send(30)
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE state = 'pending'")
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushdb()
    lost = ids_of(passes.make())  # its leader dies now
    published = []

    def look(packet):
        published.extend(run.id for run in packet)
        return packet_message(packet)

    packet_message = accept.packet_message
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accept, "packet_message", look)
        wait_until(lambda: (Dispatcher(new_run_id()).tick(), set(lost) <= {*published, *held()})[1])


def held():
    with autocommit() as connection:
        return {str(row[0]) for row in connection.execute("SELECT id FROM cgk.runs WHERE state = 'held'")}


def test_why_says_which_place_a_run_has_and_what_share_its_tenant(passes):
    send(10)
    late = send(2, tenant="globex")[1]
    passes.make()
    (gate, *_) = why(late).gates
    assert gate.code == "in_lane"
    assert "1 run of its lane comes before it. 1 other tenant waits there, and its own gets 50 %" in gate.text


def test_held_runs_of_a_crowded_queue_count_as_waiting_for_workers(passes, queue):
    send(30)
    passes.make()
    metrics = statements_of("metrics")
    with autocommit() as connection:
        groups = fetch(connection, metrics["open_runs"], {"top": 5, "queues": [queue]})
        old = fetch(connection, metrics["waiting_longest"], {"seconds": 0})
        oldest = fetch(connection, statements_of("housekeeping")["oldest_waiting"])
        unserved = fetch(connection, statements_of("doctor")["unserved_queues"], {"queues": []})
    assert {row["gate"] for row in groups if row["queue"]} == {"none"}
    assert ([row["queue"] for row in old], [row["queue"] for row in oldest]) == ([queue], [queue])
    assert [row["runs"] for row in unserved] == [30]
