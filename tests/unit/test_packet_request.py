"""What the worker's main process does with the message of a task: which timers it has, and what a dead child means."""

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, WorkerLostError
from celery import signals
from celery.events.dispatcher import EventDispatcher
from celery.worker import state
from celery.worker.request import create_request_cls
from kombu import Message

from cgk_tasks import app
from cgk_tasks.broker.envelope import packet_message, payload_message
from cgk_tasks.celery_tasks.packet_request import PacketRequest
from cgk_tasks.runs.models import Dispatch, new_run_id


@app.task(name="packet_request.limited", time_limit=20, soft_time_limit=10)
def limited():
    """A task whose runs are on record."""


@app.task(name="packet_request.telemetry", time_limit=20, soft_time_limit=10, durable=False)
def telemetry():
    """One that leaves no record."""


class Pool:
    """Notes what it is given to run."""

    def __init__(self):
        self.options = {}

    def apply_async(self, target, **options):
        self.options = options


def request_of(task, pool, message):
    """As Celery makes it from a message."""
    made = Message(
        body=message.body, content_type="application/json", content_encoding="utf-8", headers=dict(message.headers),
        properties={"correlation_id": message.id}, delivery_info={},
    )  # fmt: skip
    kind = create_request_cls(PacketRequest, task, pool, "here", EventDispatcher(enabled=False), app=app)
    return kind(made, app=app, task=task)


def packet_of(task, pool):
    return request_of(task, pool, packet_message([Dispatch(new_run_id(), "acme", task.name, "queue", 5)]))


def failed(exc):
    try:
        raise exc
    except type(exc):
        return ExceptionInfo()


def test_a_message_with_runs_has_no_timers_of_its_own():
    pool = Pool()
    packet_of(limited, pool).execute_using_pool(pool)
    assert (pool.options["timeout"], pool.options["soft_timeout"]) == (None, None)


def test_a_message_without_runs_has_celerys_timers():
    pool = Pool()
    request_of(telemetry, pool, payload_message(telemetry.name, "acme", "{}", "queue")).execute_using_pool(pool)
    assert (pool.options["timeout"], pool.options["soft_timeout"]) == (20, 10)


@pytest.mark.parametrize("error", [WorkerLostError("signal 9"), Terminated(9), SystemExit(1)])
def test_the_main_process_calls_no_receivers_for_runs_whose_child_died(error):
    seen = []

    def receiver(**arguments):
        seen.append(arguments)

    request = packet_of(limited, Pool())
    state.task_reserved(request)
    told = [signals.task_failure, signals.task_revoked, signals.task_retry]
    for signal in told:
        signal.connect(receiver)
    try:
        request.on_failure(failed(error))
    finally:
        for signal in told:
            signal.disconnect(receiver)
    assert (seen, request in state.reserved_requests) == ([], False)
