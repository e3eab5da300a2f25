"""The same where each customer's part is a run of the customer's own, under the customer's limits."""

from datetime import date, timedelta

from sqlalchemy import text

from cgk_tasks import (
    JobContext,
    SendItem,
    SendOptions,
    WorkflowContext,
    active_tenants,
    define_job,
    define_workflow,
    get_run,
    platform_context,
    send_jobs,
)
from cgk_tasks.events import TenantEvent


class SummaryDue(TenantEvent, event="summary.due"):
    day: str


class FigureDue(TenantEvent, event="summary.figureDue"):
    day: str


@define_job("figure", event=FigureDue)
def figure(ctx: JobContext[FigureDue]) -> int:
    sold = text("SELECT coalesce(sum(cents), 0) FROM sales WHERE sold_on = :day")
    return int(ctx.db.execute(sold, {"day": date.fromisoformat(ctx.payload.day)}).scalar_one())


def ask_customers(day: str) -> list[str]:
    once = SendOptions(idempotency_key=f"figure:{day}")
    with platform_context():
        asked = [SendItem(FigureDue(tenant_id=tenant.id, day=day), options=once) for tenant in active_tenants()]
        return [sent.id for sent in send_jobs(asked)]


def is_any_open(run_ids: list[str]) -> bool:
    return not all(get_run(one).is_closed for one in run_ids)


def collect(run_ids: list[str]) -> dict[str, int | None]:
    runs = [get_run(one) for one in run_ids]
    return {run.tenant_id: run.result if run.state == "completed" else None for run in runs}


@define_workflow("summary", event=SummaryDue)
def summary(wf: WorkflowContext[SummaryDue]) -> dict[str, int | None]:
    asked = wf.step("ask-customers", ask_customers, wf.payload.day)
    for _ in range(36):
        if not wf.step("is-any-open", is_any_open, asked):
            break
        wf.sleep("five-minutes", timedelta(minutes=5))
    return wf.step("collect", collect, asked)
