"""What does the work: tenants, workers, the dispatcher, job modules, queues."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.cli.doctor.database import CLOCK_WARNS
from cgk_tasks.cli.doctor.findings import Finding, fail, ok, warn
from cgk_tasks.config import Settings, get_settings
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.flow.pauses import list_pauses
from cgk_tasks.flow.queues import Pause, paused_queues
from cgk_tasks.sql.postgres import Row, autocommit, fetch, fetch_or_before, statements
from cgk_tasks.tenancy.names import problem_of
from cgk_tasks.tenancy.registry import all_tenants
from cgk_tasks.worker.dispatcher import LEASE

SQL = statements("doctor")
_START = "Start one: celery -A cgk_tasks worker, or cgk-tasks dev"


def check(settings: Settings) -> list[Finding]:
    """Needs a database that is migrated."""
    with autocommit() as connection:
        counted = fetch(connection, SQL["tenants"])[0]
        known = fetch(connection, statements("dispatch")["list_workers"])
        lease = fetch(connection, SQL["lease"], {"name": LEASE})
        alive = [row for row in known if row["silent_seconds"] < settings.worker_timeout_seconds]
        served = sorted({queue for row in alive for queue in row["queues"]})
        unserved = fetch_or_before(
            connection, SQL["unserved_queues"], SQL["unserved_queues_before_lanes"], {"queues": served}
        )
        unknown = fetch(connection, SQL["unknown_events"], {"timeout": settings.worker_timeout_seconds})
        unhandled = fetch(connection, SQL["unhandled_lately"])
        paused = paused_queues(connection)
    return [
        tenants(counted),
        *reserved_names(),
        workers(known, alive),
        *worker_clocks(alive),
        dispatcher(lease[0] if lease else None, workers_alive=bool(alive)),
        queues(unserved, served),
        *events(unknown, unhandled),
        *pauses(paused),
        *further_pauses(),
    ]


def tenants(counted: Row) -> Finding:
    if not counted["active"]:
        return warn("tenants", "No tenant is active, so nothing can be sent.", "Add one: cgk-tasks tenants add acme")
    suspended = f", {counted['suspended']} suspended" if counted["suspended"] else ""
    return ok("tenants", f"{counted['active']} active{suspended}")


def reserved_names() -> list[Finding]:
    """A line for each tenant that was registered before its id or schema was refused."""
    wrong = [(tenant, problem_of(tenant)) for tenant in all_tenants()]
    return [fail("tenants", f"{tenant.id}: {problem.text}", problem.hint or "") for tenant, problem in wrong if problem]


def workers(known: Sequence[Row], alive: Sequence[Row]) -> Finding:
    if not alive:
        return warn("workers", "No worker is alive: runs are accepted and wait.", _START)
    silent = [f"{row['name']} ({row['silent_seconds']:.0f} s)" for row in known if row not in alive]
    if silent:
        return warn(
            "workers",
            f"{len(alive)} alive; silent: {', '.join(silent)}",
            "Silent workers count as dead; a live one reclaims their runs.",
        )
    return ok("workers", f"{len(alive)} alive: {', '.join(row['name'] for row in alive)}")


def worker_clocks(alive: Sequence[Row]) -> list[Finding]:
    """How far each worker's clock is from PostgreSQL's, as it measured with its last heartbeats."""
    offsets = {row["name"]: row["clock_offset_seconds"] for row in alive if row["clock_offset_seconds"] is not None}
    if not offsets:
        return []
    told = ", ".join(f"{name} {offset:+.3f} s" for name, offset in offsets.items())
    text = f"from PostgreSQL's: {told}"
    if max(map(abs, offsets.values())) > CLOCK_WARNS.total_seconds():
        advice = "Run a time service (chrony, systemd-timesyncd) on these machines: jobs and logs go by their clocks."
        return [warn("worker clocks", text, advice)]
    return [ok("worker clocks", text)]


def dispatcher(lease: Row | None, *, workers_alive: bool) -> Finding:
    if lease is not None and lease["held"]:
        return ok("dispatcher", f"led by {lease['holder']}")
    if not workers_alive:
        return warn("dispatcher", "Nobody leads, as no worker is alive: delayed runs and retries wait.", _START)
    return fail(
        "dispatcher",
        "Workers are alive, but none of them leads: delayed runs and retries wait.",
        "It takes a starting worker a second. If this stays, look for supervisor_unavailable in the workers' logs.",
    )


def queues(unserved: Sequence[Row], served: Sequence[str]) -> Finding:
    if unserved:
        waiting = ", ".join(f"{row['runs']} in {row['queue']}" for row in unserved)
        names = ",".join(row["queue"] for row in unserved)
        return fail(
            "queues",
            f"Runs wait in queues that no worker listens to: {waiting}.",
            f"Start a worker: celery -A cgk_tasks worker -Q {names}",
        )
    return ok("queues", f"workers listen to {', '.join(served)}" if served else "no run waits")


def events(unknown: Sequence[Row], unhandled: Sequence[Row]) -> list[Finding]:
    """Lines where workers of a queue have no job for what is sent to it."""
    found = [(_waiting(row), row) for row in unknown]
    found += [
        (f"{_runs(row)} ended as unhandled in the last day: no worker of it had a job.", row) for row in unhandled
    ]
    return [
        warn(
            "events",
            text,
            f"Name the module of {row['event']}'s job in CGK_JOB_MODULES of the workers that listen to {row['queue']}, "
            "and start them anew. What is unhandled is repeated by: cgk-tasks runs retry ID",
        )
        for text, row in found
    ]


def _waiting(row: Row) -> str:
    if not row["executing"]:
        return f"{_runs(row)} wait, and no worker of it has a job: they end as unhandled."
    return f"{_runs(row)} wait, and only {row['executing']} of its {row['listening']} workers have a job."


def _runs(row: Row) -> str:
    return f"{row['runs']} of {row['event']} in queue {row['queue']}"


def further_pauses() -> list[Finding]:
    """A line where a tenant or a job is paused. There are none before the end of an upgrade."""
    if not SWITCH.current().flow_version:
        return []
    found = [one.subject for one in list_pauses() if (one.tenant_id, one.event) != (None, None) or one.mode == "drop"]
    if not found:
        return []
    return [
        warn("pauses", f"paused: {'; '.join(found)}", "Who and why: cgk-tasks pauses. To end one: cgk-tasks resume")
    ]


def pauses(paused: Sequence[Pause]) -> list[Finding]:
    """A line where a queue is paused: somebody may have forgotten it."""
    if not paused:
        return []
    told = ", ".join(
        f"{one.queue} (by {one.paused_by or 'somebody'} since {one.paused_at.astimezone():%Y-%m-%d %H:%M})"
        for one in paused
    )
    return [
        warn(
            "paused queues",
            f"Nothing new starts in {told}.",
            f"When that is over: cgk-tasks queues resume {shlex.quote(paused[0].queue)}",
        )
    ]


def jobs() -> Finding:
    """Whether a worker that starts in this folder would find the application's jobs."""
    from cgk_tasks.jobs.registry import all_jobs, import_job_modules

    try:
        names = get_settings().job_modules
        import_job_modules()
    except CgkTasksError as error:
        return fail("jobs", str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - anything can happen in an application's module
        return fail(
            "jobs",
            f"A module of CGK_JOB_MODULES cannot be imported: {type(error).__name__}: {error}",
            "Import it in Python to see where: a worker that starts now ends with the same error.",
        )
    if not names:
        return warn(
            "jobs",
            "CGK_JOB_MODULES names no module: every event ends as unhandled.",
            "Set it to the modules with @define_job, for instance CGK_JOB_MODULES=jobs in .env.local",
        )
    found = len(all_jobs())
    if not found:
        return warn("jobs", f"{', '.join(names)} define no job.", "Decorate a function with @define_job.")
    return ok("jobs", f"{found} in {', '.join(names)}")
