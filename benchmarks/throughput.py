"""Durable runs that do nothing against plain tasks that do nothing: one id a message, and in packets."""

from __future__ import annotations

from collections.abc import Callable

import plain_app
from draining import drain_ours, drain_plain
from harness import OURS, PACKETS, PLAIN, PLAIN_WITH_RESULTS, Line, Plan, Worker, repeat, setting
from sends import ours_order, plain_order, send_ours

from cgk_tasks.broker import packets
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit


def measure(plan: Plan) -> list[Line]:
    learn_run_times()
    count, many = plan.backlog, plan.deep_backlog

    def plain(name: str, worker: tuple[str, str]) -> Callable[[], list[float]]:
        app = getattr(plain_app, name)
        return lambda: [drain_plain(app, worker, "do_nothing", plain_order, count)]

    def ours(runs: int) -> list[float]:
        return [drain_ours("order.created", map(ours_order, range(runs)), runs)]

    def ours_in_packets() -> list[float]:
        with setting(*PACKETS):
            return ours(many)

    medians = repeat(
        plan.repeats,
        {
            "plain": plain("app", PLAIN),
            "with results": plain("with_results", PLAIN_WITH_RESULTS),
            "ours": lambda: ours(count),
            "packets": ours_in_packets,
        },
    )
    figures = {name: figure for name, (figure,) in medians.items()}
    what = f"no-op runs, backlog of {count:,}, one id a message"
    return [
        Line(f"{what}; plain without results", figures["plain"], figures["ours"], "/s", at_least=1.0),
        Line(f"{what}; plain with Redis results", figures["with results"], figures["ours"], "/s"),
        Line(
            f"no-op runs, backlog of {many:,}, packets on",
            figures["plain"],
            figures["packets"],
            "/s",
            at_least=10.0,
        ),
    ]


def learn_run_times(event: str = "order.created", send_one: Callable[[], object] = lambda: send_ours(0)) -> None:
    """Packets are for events that are known to be short: let a worker find out, with runs that `send_one` sends."""
    with Worker(*OURS) as worker, autocommit() as connection:

        def known() -> bool:
            send_one()
            return connection.execute("SELECT FROM cgk.run_times WHERE event = %s", (event,)).fetchone() is not None

        worker.wait(known)
    current_runtime().drop(packets.RUN_TIMES)  # this process forgets that it did not know
