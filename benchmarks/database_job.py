"""Jobs that write one row: with `ctx.db`, committed together with the run's completion; plain with its own commit."""

from __future__ import annotations

import plain_app
from draining import drain_ours, drain_plain
from harness import PACKETS, PLAIN, Line, Plan, environment, repeat, setting
from jobs import WriteSharedRow
from sends import ours_rows, plain_row
from shared import IMPORTS, OF_A_PRODUCT
from throughput import learn_run_times

from cgk_tasks import send_job
from cgk_tasks.tenancy import add_tenant, suspend_tenant

TENANTS = 100
"""Each with a schema of its own, and with runs that take turns: the most that a change of tenant can cost."""


def measure(plan: Plan) -> list[Line]:
    count = plan.rows
    # All are drained for three to five seconds: the first tenths of one, in which children connect, count in each.
    own, shared = 2 * count, 4 * count
    learn_run_times("bench.write", lambda: [send_job(row) for row in ours_rows(1)])
    learn_run_times("bench.write_shared", lambda: [send_job(row) for row in ours_rows(1, model=WriteSharedRow)])

    def ours() -> list[float]:
        return [drain_ours("bench.write", ours_rows(count), count)]

    def ours_in_packets() -> list[float]:
        with setting(*PACKETS):
            return [drain_ours("bench.write", ours_rows(own), own)]

    def of_shared_transactions() -> list[float]:
        with setting(*PACKETS):
            return [drain_ours("bench.write_shared", ours_rows(shared, model=WriteSharedRow), shared)]

    tenants = [add_tenant(f"shop-{number}").id for number in range(TENANTS)]

    def of_many_tenants() -> list[float]:
        with setting(*PACKETS):
            return [drain_ours("bench.write", ours_rows(own, tenants), own)]

    # As an application does that has models. Else the children would import it within the time that is measured.
    with environment({IMPORTS: OF_A_PRODUCT}):
        medians = repeat(
            plan.repeats,
            {
                "plain": lambda: [drain_plain(plain_app.app, PLAIN, "write_row", plain_row, count)],
                "ours": ours,
                "packets": ours_in_packets,
                "tenants": of_many_tenants,
                "shared": of_shared_transactions,
            },
        )
    for tenant in tenants:
        suspend_tenant(tenant)  # the benchmarks that come later have tenants of their own

    def line(backlog: int, how: str, name: str, at_least: float | None = None) -> Line:
        what = f"runs that write one row, backlog of {backlog:,}, {how}"
        return Line(what, *medians["plain"], *medians[name], "/s", at_least=at_least)

    return [
        line(own, "packets on", "packets", at_least=3.0),
        line(shared, "packets on, transactions shared", "shared", at_least=6.0),
        line(own, f"packets on, of {TENANTS} tenants in turn", "tenants"),
        line(count, "one id a message", "ours"),
    ]
