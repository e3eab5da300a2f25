"""What the demo shows: progress while it runs, and its tables. Plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cgk_tasks.demo.purchases import Sums

_LINE_EVERY_SECONDS = 2.0


class Show(Protocol):
    """Takes how many runs of each tenant are completed."""

    def __call__(self, completed: Mapping[str, int]) -> None: ...


@contextmanager
def progress(console: Console, totals: Mapping[str, int]) -> Iterator[Show]:
    """Bars that move on a terminal; elsewhere a line every two seconds."""
    if not console.is_terminal:
        yield _lines(console, totals)
        return
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        ids: dict[str, TaskID] = {tenant_id: bars.add_task(tenant_id, total=runs) for tenant_id, runs in totals.items()}

        def show(completed: Mapping[str, int]) -> None:
            for tenant_id, bar in ids.items():
                bars.update(bar, completed=completed.get(tenant_id, 0))

        yield show


def _lines(console: Console, totals: Mapping[str, int]) -> Show:
    last = time.monotonic()

    def show(completed: Mapping[str, int]) -> None:
        nonlocal last
        done = all(completed.get(tenant_id, 0) >= runs for tenant_id, runs in totals.items())
        if done or time.monotonic() - last >= _LINE_EVERY_SECONDS:
            last = time.monotonic()
            console.print(
                "  ".join(f"{tenant_id} {completed.get(tenant_id, 0)}/{runs}" for tenant_id, runs in totals.items())
            )

    return show


def dollars(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def result_table(completed: Mapping[str, int], found: Mapping[str, Sums], wanted: Mapping[str, Sums]) -> Table:
    """A row for each tenant, with the file's revenue beside the tables' own, and the totals."""
    table = Table("tenant", show_footer=True)
    table.columns[0].footer = "total"
    figures = {
        "runs completed": (f"{completed[tenant_id]:,}" for tenant_id in wanted),
        "orders": (f"{found[tenant_id].orders:,}" for tenant_id in wanted),
        "customers": (f"{found[tenant_id].customers:,}" for tenant_id in wanted),
        "revenue ($)": (dollars(found[tenant_id].revenue) for tenant_id in wanted),
        "in the file ($)": (dollars(sums.revenue) for sums in wanted.values()),
    }
    footers = (
        f"{sum(completed.values()):,}",
        f"{sum(sums.orders for sums in found.values()):,}",
        f"{sum(sums.customers for sums in found.values()):,}",
        dollars(sum((sums.revenue for sums in found.values()), Decimal(0))),
        dollars(sum((sums.revenue for sums in wanted.values()), Decimal(0))),
    )
    for header, footer in zip(figures, footers, strict=True):
        table.add_column(header, footer, justify="right")
    for tenant_id, *row in zip(wanted, *figures.values(), strict=True):
        table.add_row(tenant_id, *row)
    return table
