"""RabbitMQ in place of Redis: plain Celery on a quorum queue, and cgk_tasks. Only where RabbitMQ is installed."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from amqp.exceptions import NotFound
from draining import drain_ours, drain_plain
from harness import FOLDER, ONE_ID_A_MESSAGE, OURS, PACKETS, Line, Plan, environment, repeat
from kombu import Connection
from sends import ours_order, plain_order
from shared import PLAIN_QUEUE, RABBITMQ_URL
from throughput import learn_run_times

from cgk_tasks import send_jobs

PLAIN = ("plain_rabbit_app", PLAIN_QUEUE)


@contextmanager
def rabbitmq() -> Iterator[str | None]:
    """The address of a private RabbitMQ; None where it is not installed."""
    sys.path.append(str(FOLDER.parent))  # the tests know how to start one
    from tests.support.rabbitmq import RabbitServer, find_rabbitmq

    program = find_rabbitmq()
    if program is None:
        yield None
        return
    server = RabbitServer(program)
    try:
        yield server.url
    finally:
        server.close()


def measure(plan: Plan) -> list[Line]:
    learn_run_times()  # with Redis: the measured times are in PostgreSQL
    with rabbitmq() as url:
        if url is None:
            print("  skipped: no rabbitmq-server here", file=sys.stderr)
            return []
        with environment({RABBITMQ_URL: url}):
            return _measure(plan, url)


def _measure(plan: Plan, url: str) -> list[Line]:
    count, many, bulk = plan.backlog, plan.deep_backlog, plan.bulk
    app = importlib.import_module(PLAIN[0]).app

    def plain() -> list[float]:
        _empty_queues(url)
        return [drain_plain(app, PLAIN, "do_nothing", plain_order, count)]

    def ours(runs: int, packets: tuple[str, str]) -> list[float]:
        _empty_queues(url)
        with environment(dict([("CGK_BROKER_URL", url), packets])):
            return [drain_ours("order.created", map(ours_order, range(runs)), runs)]

    def plain_bulk() -> list[float]:
        _empty_queues(url)
        begun = time.perf_counter()
        for number in range(bulk // 4):
            app.tasks["do_nothing"].apply_async(kwargs=plain_order(number))
        return [bulk // 4 / (time.perf_counter() - begun)]

    def ours_bulk() -> list[float]:
        _empty_queues(url)
        with environment(dict([("CGK_BROKER_URL", url), PACKETS])):
            begun = time.perf_counter()
            send_jobs(map(ours_order, range(bulk)))
            return [bulk / (time.perf_counter() - begun)]

    medians = repeat(
        plan.repeats,
        {
            "plain": plain,
            "ours": lambda: ours(count, ONE_ID_A_MESSAGE),
            "packets": lambda: ours(many, PACKETS),
            "plain bulk": plain_bulk,
            "ours bulk": ours_bulk,
        },
    )
    figures = {name: figure for name, (figure,) in medians.items()}
    plain_rate, on = figures["plain"], "RabbitMQ, quorum queues:"
    return [
        Line(f"{on} no-op runs, backlog of {count:,}, one id a message", plain_rate, figures["ours"], "/s"),
        Line(f"{on} no-op runs, backlog of {many:,}, packets on", plain_rate, figures["packets"], "/s"),
        Line(f"{on} bulk send of {bulk:,}, packets on", figures["plain bulk"], figures["ours bulk"], "/s"),
    ]


def _empty_queues(url: str) -> None:
    """Emptied, not deleted: senders declare a queue once, and what is sent to one that is gone is lost."""
    for queue in (PLAIN_QUEUE, OURS[1]):
        with Connection(url) as connection, suppress(NotFound):  # before the first send
            connection.default_channel.queue_purge(queue)
