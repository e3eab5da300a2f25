"""The demo from its start to its table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

from rich.console import Console
from rich.markup import escape

from cgk_tasks import embedded
from cgk_tasks.demo.display import Show, dollars, progress, result_table
from cgk_tasks.demo.environment import Terminated, own_settings, running_workers, terminable
from cgk_tasks.demo.purchases import TENANTS, Purchase, Sums, read_purchases, sums_by_tenant
from cgk_tasks.demo.sending import NEXT_YEAR, SOON, send_orders, send_reminders
from cgk_tasks.demo.shops import read_sums
from cgk_tasks.demo.worker import WorkerProcess
from cgk_tasks.migrations import migrate
from cgk_tasks.runs import store
from cgk_tasks.runs.models import OPEN_STATES
from cgk_tasks.tenancy import add_tenant

WRONG, INTERRUPTED, TERMINATED = 1, 130, 143
_LOOK_SECONDS = 0.2
_STANDSTILL_SECONDS = 60.0

WHAT_NEXT = """\
[bold]What to try next[/bold]
  cgk-tasks dev            PostgreSQL, Redis, a worker and the dashboard for your own jobs, in this folder
  cgk-tasks events list    every event that you can send
  cgk-tasks demo --keep    the same with its data kept; then look around: cgk-tasks dev, cgk-tasks runs list"""


class DemoFailedError(Exception):
    """The demo did not come to its end; the text says why."""


def demonstrate(console: Console | None, *, keep: bool, workers: int, concurrency: int) -> int:
    """Run the demo and return the exit code; see `cgk_tasks.demo.run`."""
    console = console or Console()
    try:
        with terminable():
            console.print("Starting a private PostgreSQL and Redis ...")
            with embedded.start() if keep else embedded.temporary() as services, own_settings(services):
                return _with_services(console, services, workers, concurrency)
    except KeyboardInterrupt:
        console.print("Interrupted. Everything is stopped.")
        return INTERRUPTED
    except Terminated:
        console.print("Terminated. Everything is stopped.")
        return TERMINATED


def _with_services(console: Console, services: embedded.Services, workers: int, concurrency: int) -> int:
    migrate()
    for tenant_id in TENANTS:
        _cancel_leftovers(tenant_id)
        add_tenant(tenant_id)
    console.print(f"Tenants, each with a schema and a role of its own: {', '.join(TENANTS)}")
    purchases = read_purchases()
    with running_workers(services, workers, concurrency) as started:
        try:
            completed = _send_and_watch(console, purchases, started)
        except DemoFailedError as failure:
            console.print(f"[bold red]The demo failed:[/bold red] {escape(str(failure))}")
            _show_logs(console, started)
            return WRONG
        except Exception:
            _show_logs(console, started)
            raise
        right = _show_result(console, purchases, completed)
        if not right:
            _show_logs(console, started)
    console.print(WHAT_NEXT, soft_wrap=True)
    return 0 if right else WRONG


def _cancel_leftovers(tenant_id: str) -> None:
    """Runs of an earlier demo in the same folder: scheduled ones, and what an interrupted demo left behind."""
    for state in OPEN_STATES:
        for run in store.listing(tenant_id=tenant_id, state=state, limit=100_000):
            store.cancel(run.id)


def _send_and_watch(
    console: Console, purchases: Sequence[Purchase], workers: Sequence[WorkerProcess]
) -> dict[str, int]:
    """Send everything and wait until it is done. Returns the completed orders by tenant."""
    orders, reminders = _Watch("order.created", workers), _Watch("review.reminder", workers)
    totals = {tenant_id: sums.orders for tenant_id, sums in sums_by_tenant(purchases).items()}
    begun = time.monotonic()
    send_orders(purchases)
    send_reminders(purchases)
    sent = time.monotonic() - begun
    console.print(
        f"Sent {len(purchases):,} real orders in {sent:.1f} s, and {SOON + NEXT_YEAR} review reminders: "
        f"{SOON} for the next seconds, {NEXT_YEAR} for next year.",
        soft_wrap=True,
    )
    with progress(console, totals) as show:
        completed = orders.wait(len(purchases), show)
    seconds = time.monotonic() - begun
    console.print(f"{len(purchases):,} runs in {seconds:.1f} s, {len(purchases) / seconds:,.0f} a second.")
    reminders.wait(SOON)
    return completed


class _Watch:
    """Counts the runs of one event that were completed since it was made."""

    def __init__(self, event: str, workers: Sequence[WorkerProcess]) -> None:
        self._event, self._workers = event, workers
        self._before = self._count()

    def wait(self, runs: int, show: Show | None = None) -> dict[str, int]:
        """Until so many are completed. Returns them by tenant. Raises DemoFailedError when that will not happen."""
        done, moved_at = -1, time.monotonic()
        while True:
            counts = self._count() - self._before
            completed = {tenant_id: counts[tenant_id, "completed"] for tenant_id in TENANTS}
            if show is not None:
                show(completed)
            if (now := sum(completed.values())) >= runs:
                return completed
            if now > done:
                done, moved_at = now, time.monotonic()
            self._check(sum(counts[tenant_id, "failed"] for tenant_id in TENANTS))
            if time.monotonic() - moved_at > _STANDSTILL_SECONDS:
                raise DemoFailedError(
                    f"{self._event} stands still at {now} of {runs} runs, for {_STANDSTILL_SECONDS:.0f} s."
                )
            time.sleep(_LOOK_SECONDS)

    def _check(self, failed: int) -> None:
        for worker in self._workers:
            if worker.exit_code is not None:
                raise DemoFailedError(f"{worker.name} ended with exit code {worker.exit_code}.")
        if failed:
            error = store.get(store.listing(event=self._event, state="failed", limit=1)[0].id).error or {}
            raise DemoFailedError(f"A run of {self._event} failed: {error.get('type')}: {error.get('message')}")

    def _count(self) -> Counter[tuple[str, str]]:
        return Counter({(row["tenant_id"], row["state"]): row["runs"] for row in store.counts(event=self._event)})


def _show_result(console: Console, purchases: Sequence[Purchase], completed: Mapping[str, int]) -> bool:
    """The table, and whether everything in it is right."""
    wanted = sums_by_tenant(purchases)
    found: dict[str, Sums] = {}
    totals: dict[str, Decimal] = {}
    for tenant_id in TENANTS:
        found[tenant_id], totals[tenant_id] = read_sums(tenant_id)
    scheduled = sum(row["runs"] for row in store.counts(event="review.reminder") if row["state"] == "scheduled")
    console.print(result_table(completed, found, wanted))
    console.print(f"Review reminders: {SOON} done, {scheduled} scheduled for next year.")
    wrong = [
        tenant_id
        for tenant_id, sums in wanted.items()
        if (found[tenant_id], totals[tenant_id], completed.get(tenant_id)) != (sums, sums.revenue, sums.orders)
    ]
    if wrong:
        console.print(f"[bold red]Wrong:[/bold red] {', '.join(wrong)}: not what the file says. Please report this.")
        return False
    revenue = sum((sums.revenue for sums in found.values()), Decimal(0))
    console.print(f"[bold green]Right to the cent:[/bold green] {dollars(revenue)} $ in {len(found)} tenants.")
    return True


def _show_logs(console: Console, workers: Sequence[WorkerProcess]) -> None:
    for worker in workers:
        console.print(f"The last lines of the log of {worker.name}:")
        console.print(worker.last_lines() or "  (nothing)", markup=False, highlight=False, soft_wrap=True)
