"""The pages of the dashboard that benchmarks/dashboard.py asks for: each of them, with what makes it expensive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from filled_pages import TICKED, last_action, last_tenant

from cgk_tasks.dashboard.data.dead_letters import dead_letter_groups
from cgk_tasks.dashboard.data.run_search import RunFilter, find_runs


def paths(workflow: str) -> dict[str, str]:
    """Addresses, by what they are called in the table."""
    first = find_runs(RunFilter())
    deep = first.next
    for _ in range(100):
        deep = find_runs(RunFilter(), deep).next
    failed = find_runs(RunFilter(state="failed")).runs[0].id
    waiting = find_runs(RunFilter(state="pending")).runs[0].id
    group = dead_letter_groups()[0].group
    action = last_action()
    query = urlencode({"event": group.event, "fingerprint": group.fingerprint})
    return {
        "overview, an hour": "/overview",
        "overview, a day": "/overview?span=24h",
        "overview, a week": "/overview?span=7d",
        "overview of one tenant, a week": "/overview?span=7d&tenant=shop-1",
        "runs, first page": "/runs",
        "runs, page 102": f"/runs?before={deep}",
        "runs of one tenant": "/runs?tenant=shop-40",
        "runs of an event that failed": "/runs?event=order.created&state=failed",
        "runs with an error code that none has": "/runs?error=NONE",
        "runs that closed in an hour of last week": f"/runs?q=closed-since:{_ago(168)}+closed-until:{_ago(167)}",
        "runs of a tenant by text, not found": "/runs?q=tenant:shop-1+zzzz",
        "runs of a tenant in a state": "/runs?q=tenant:shop-1+state:failed",
        "runs of a tenant without any": "/runs?q=tenant:platform",
        "runs with an error": "/runs?q=error:TIMEOUT",
        "runs with an error of an event": "/runs?q=error:TIMEOUT+event:inventory.sync",
        "runs since an hour": "/runs?q=since:1h",
        "runs of a day, three weeks ago": f"/runs?q=since:{_ago(504)}+until:{_ago(480)}",
        "runs of events with a star": "/runs?q=event:order.*",
        "runs of an event that does not exist": "/runs?q=event:order.none",
        "runs of a job": "/runs?q=job:job-of-order.created",
        "runs in a state": "/runs?q=state:failed",
        "runs by each term at once": "/runs?q=tenant:shop-1+event:inventory.sync+state:failed+error:TIMEOUT+since:30d",
        "runs by text, found": "/runs?text=o-5000",
        "runs by text, not found": "/runs?text=zzzz",
        "plan of a retry: an event that failed": "/runs/matching?do=retry&q=event:order.created+state:failed",
        "plan of a retry: a tenant": "/runs/matching?do=retry&q=tenant:shop-1",
        "plan of a retry: every run": "/runs/matching?do=retry",
        "plan of a cancel: an event": "/runs/matching?do=cancel&q=event:order.created",
        "plan of a replay: 10,000 that completed": "/runs/matching?do=replay&q=state:completed",
        "a failed run": f"/runs/{failed}",
        "a waiting run, with why": f"/runs/{waiting}",
        "tenants": "/tenants",
        "tenants by id": "/tenants?order=id",
        "queues": "/queues",
        "workers": "/workers-now",
        "a queue with a lane of each tenant": "/queues/lanes?queue=exports",
        "a queue, the lanes of one tenant": "/queues/lanes?queue=exports&tenant=shop-7",
        "a tenant": "/tenants/shop-1",
        "a tenant with little": f"/tenants/{last_tenant()}",
        "a workflow of 1,000 steps": f"/runs/{workflow}",
        "a workflow with all of its steps": f"/runs/{workflow}?steps=all",
        "tenants, 7 days": "/tenants?within=7d",
        "tenants, 30 days": "/tenants?within=30d",
        "events": "/events",
        "an event, an hour": "/events/order.created?span=1h",
        "an event, a day": "/events/order.created?span=24h",
        "an event with most dead letters, a week": "/events/inventory.sync?span=7d",
        "the form that sends an event": "/events/order.created/send",
        "the form for an event as JSON": "/events/order.created/send?as=json",
        "jobs": "/jobs",
        "a job, a week": "/jobs/job-of-order.created?span=7d",
        "dead letters": "/dead-letters",
        "dead letters of one tenant": "/dead-letters?tenant=shop-3",
        "a group of dead letters": f"/dead-letters/group?{query}",
        "dry run of a group": f"/dead-letters/action?kind=retry&{query}",
        "schedules": "/schedules",
        "a schedule": f"/schedules/{TICKED}",
        "a schedule, run now": f"/schedules/{TICKED}/run-now",
        "a schedule, run now for a tenant": f"/schedules/{TICKED}/run-now?tenant=shop-7",
        "schedules that tenants made": "/schedules/of-tenants",
        "schedules that one tenant made": "/schedules/of-tenants?tenant=shop-7",
        "the coming day": "/schedules/coming-day",
        "audit": "/audit",
        "audit, the 1,000th page": f"/audit?before={action - 100_000}",
        "a long action": f"/actions/{action}",
        "the CSV of every run, first byte": "/runs.csv",
        "the CSV of a search, first byte": "/runs.csv?q=event:inventory.sync+state:failed",
        "live: the overview, first byte": "/live?about=overview",
        "live: every run, first byte": "/live?about=runs",
        "live: a search, first byte": "/live?about=runs&of=event:inventory.sync+state:failed",
        "live: a run, first byte": f"/live?about=run&of={failed}",
        "live: a workflow, first byte": f"/live?about=run&of={workflow}",
        "live: a queue, first byte": "/live?about=queue&of=exports",
    }


def _ago(hours: int) -> str:
    return f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"


def _ago(hours: int) -> str:
    return f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"
