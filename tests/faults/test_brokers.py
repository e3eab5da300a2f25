"""The same faults over Redis and over RabbitMQ, where there is one."""

import os
import signal

import pytest
from kombu import Connection, Producer

from cgk_tasks import send_job
from tests.faults.conftest import MODULES
from tests.faults.journal import once, rows_written, states, wait_completed
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import running_worker


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def broker_name(request):
    return request.param


def test_events_go_through_with_their_payloads(celery_setup, journal):
    order = {"tenantId": "globex", "orderId": "o-2", "totalAmount": 5}
    runs = journal.send(10, priority=0) + journal.send(10, priority=9)
    results = {send_job(journal.work(number)).id: number for number in range(5)}
    ordered = send_job("order.created", order).id
    foreign = celery_setup.app.send_task("order.created", kwargs=order)
    assert wait_closed(ordered).result == "o-2"
    assert foreign.get(timeout=20) == "o-2"
    assert {run_id: wait_closed(run_id).result for run_id in results} == results
    wait_completed(runs)


def test_killed_children_and_a_killed_worker_leave_each_effect_once(worker, journal):
    runs = journal.send(50, seconds=0.1)
    for _ in range(2):
        os.kill(journal.wait_at_work(runs)[0], signal.SIGKILL)
    journal.wait_at_work(runs)
    worker.kill()
    worker.restart()
    wait_completed(runs, 45)
    assert rows_written(runs) == once(runs)
    assert journal.overlaps == []


def test_a_killed_broker_comes_back_and_nothing_is_lost_or_executed_twice_at_once(worker, broker, journal):
    runs = journal.send(100, seconds=0.05)
    # A queue of RabbitMQ 3.10 that is only a second old comes back from a kill without a leader, and stays so.
    wait_until(lambda: states(runs)["completed"] > 60)
    broker.kill()
    sent_meanwhile = [send_job(journal.work(number)).id for number in range(5)]
    broker.start()
    everything = [*runs, *sent_meanwhile, *journal.send(5)]
    wait_completed(everything, 60)
    assert rows_written(everything) == once(everything)
    assert journal.overlaps == []
    assert worker.container.status == "running"


@pytest.mark.slow
def test_what_a_stopping_worker_has_only_fetched_runs_elsewhere_while_its_jobs_run_on(celery_setup, worker, journal):
    long = journal.send(2, seconds=300.0, priority=9)  # the whole pool
    journal.wait_at_work(long, 2)
    fetched = [send_job(journal.work(number)).id for number in range(3)]
    inspect = celery_setup.app.control.inspect(timeout=2)

    def reserved() -> int:
        try:
            return sum(map(len, (inspect.reserved() or {}).values()))
        except OSError:  # a connection of this process from before the broker was killed
            return 0

    wait_until(lambda: reserved() >= 3, 30, "fetched")
    worker.kill("SIGTERM")
    with running_worker(MODULES):
        wait_completed(fetched)
        assert states(long) == {"running": 2}
    worker.kill("SIGQUIT")
    wait_until(lambda: worker.container.status == "exited", what="the worker has ended")
    assert states(long) == {"pending": 2}


def test_junk_is_refused_and_ends_no_worker(worker, broker, journal, queue):
    headers = {"lang": "py", "task": "fault.work", "id": "junk", "cgk": 1.0}
    with Connection(broker.config()["url"]) as connection:
        producer = Producer(connection, auto_declare=False)
        for body in (b'"***"', b"5", b"null", b"[]", b"[[[5], 1], {}, {}]", b"xx", b"\xff", b""):
            for sent in (headers, {"task": ["x"]}, {"task": "fault.work"}, {}, {**headers, "compression": "gzip"}):
                producer.publish(
                    body, routing_key=queue, exchange="", headers=sent, content_type="application/json",
                    content_encoding="utf-8",
                )  # fmt: skip
    wait_completed(journal.send(3))
    assert worker.container.status == "running"
    assert worker.logs().count("message_unreadable") > 20
    assert "Connection to broker lost" not in worker.logs()
