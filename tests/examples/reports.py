"""One report over all tenants each night: a run for each of them, all at the same time, and one that collects."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text

from cgk_tasks import (
    JobContext,
    Tenant,
    WorkflowContext,
    active_tenants,
    define_cron_job,
    define_job,
    define_workflow,
    platform_context,
    send_job,
    tenant_context,
    tenant_session,
)
from cgk_tasks.errors import ChildFailedError
from cgk_tasks.events import TenantEvent


class ReportDue(TenantEvent, event="report.due"):
    day: str


class PartDue(TenantEvent, event="report.partDue"):
    about: str
    day: str


def create_tables(_tenant: Tenant, connection: Any) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS sales (sold_on date NOT NULL, cents bigint NOT NULL)")


@define_cron_job("begin-report", schedule="0 3 * * *", timezone="Europe/Berlin", scope="platform")
def begin_report(ctx: JobContext[Any]) -> None:
    yesterday = ((ctx.scheduled_for or datetime.now(UTC)) - timedelta(days=1)).date().isoformat()
    send_job(ReportDue(tenant_id=ctx.tenant_id, day=yesterday), idempotency_key=f"report:{yesterday}")


@define_job("report-part", event=PartDue)
def report_part(ctx: JobContext[PartDue]) -> int:
    with platform_context(), tenant_context(ctx.payload.about), tenant_session() as session:
        sold = text("SELECT coalesce(sum(cents), 0) FROM sales WHERE sold_on = :day")
        return int(session.execute(sold, {"day": date.fromisoformat(ctx.payload.day)}).scalar_one())


def customers() -> list[str]:
    return [tenant.id for tenant in active_tenants()]


@define_workflow("report", event=ReportDue)
def report(wf: WorkflowContext[ReportDue]) -> dict[str, Any]:
    day, tenants = wf.payload.day, wf.step("customers", customers)
    parts = wf.gather(
        "parts", [wf.child("report.partDue", {"about": one, "day": day}) for one in tenants], on_failure="continue"
    )
    cents = {one: part for one, part in zip(tenants, parts, strict=True) if not isinstance(part, ChildFailedError)}
    missing = [one for one in tenants if one not in cents]

    def write() -> None:
        row = {"day": date.fromisoformat(day), "cents": sum(cents.values()), "missing": missing}
        wf.db.execute(text("INSERT INTO reports VALUES (:day, :cents, :missing)"), row)

    wf.step("write", write)
    return {"cents": sum(cents.values()), "missing": missing}
