"""Limits of jobs that are set while everything runs: for a tenant, or for all of them.

A limit takes the place of a declared one of the same kind, `per` and key, or is one more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import psycopg

from cgk_tasks.admission.gates import WantedGate
from cgk_tasks.admission.limits import numbers_of
from cgk_tasks.admission.rules import AtOnce, GateRule, Limit, Throttle, check_rules
from cgk_tasks.admission.running import count_running
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import find_event
from cgk_tasks.flow.changes import Change, changing
from cgk_tasks.jobs.registry import all_jobs, import_job_modules
from cgk_tasks.sql.postgres import Row, autocommit, execute, explain, fetch, statements
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL, ADMISSION = statements("limits"), statements("admission")

ACTIONS: Final = (
    "set plan", "remove plan", "set tenant limits", "set limit", "remove limit", "close guard", "open guard",
)  # fmt: skip
_NUMBERS: Final = WantedGate._fields[2:]


@dataclass(frozen=True, slots=True)
class JobLimit:
    """A limit of a job. `source`: `code`, as it is declared, or `set`, for one tenant or for all (None)."""

    job: str
    limit: Limit
    tenant_id: str | None
    source: Literal["code", "set"]
    changed_at: datetime | None = None
    changed_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A change of limits: who made it, when and why; what was and what is."""

    at: datetime
    who: str
    via: str
    action: str
    subject: str
    tenant_id: str | None
    reason: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A job, its event, and whether the event has no other one."""

    job: str
    event: str
    is_only_job: bool


def set_limit(job: str, limit: Limit, *, tenant: str | None = None, by: str = "", reason: str = "") -> None:
    """Limit a job from now on, over all workers; of one tenant, or of all of them.

    It takes the place of the limit that the job declares with the same kind, `per` and key, until it is removed;
    without one it is a further limit. Counts within CGK_RULES_REFRESH_SECONDS, and nothing has to be started anew.
    What is on goes on. Raises InvalidOptionError for an unknown job, ConfigurationError for a limit that cannot be,
    UnknownTenantError, StoreError.

        set_limit("sync-orders", AtOnce(10), tenant="acme", by="ada", reason="their interface is slow")
    """
    known = find_job_event(job)
    _check(known, limit, tenant)
    rule, whose = GateRule(job, limit), tenant or ""
    new = {name: value for name, value in numbers_of(limit).items() if value is not None}
    with changing() as (connection, _version):
        rows = fetch(connection, SQL["get_job_limit"], {"rule": rule.name, "tenant_id": whose})
        execute(connection, SQL["put_job_limit"], {
            "rule": rule.name, "tenant_id": whose, "job": job, "event": known.event, "is_only_job": known.is_only_job,
            "kind": limit.kind, "per": limit.per, "key_field": limit.key, "by": by, "reason": reason,
            **numbers_of(limit),
        })  # fmt: skip
        execute(connection, ADMISSION["renumber_gates"], {"name": rule.name})
        if isinstance(limit, AtOnce) and limit.key is None:
            of_record = rule._replace(is_declared=False)
            count_running(
                connection, of_record, tenants=None if tenant is None else [tenant], job=job, event=known.event
            )
        Change(by, reason).note(connection, "set limit", rule.name, _numbers(rows[0] if rows else {}), new, tenant)


def remove_limit(
    job: str, limit: Limit | None = None, *, tenant: str | None = None, by: str = "", reason: str = ""
) -> int:
    """Take away what was set for a job, of one tenant or of all; what the job declares counts again. Returns how many
    limits that were.

    limit: the one of its kind, `per` and key, whatever its number; None for all of them. Raises StoreError.
    """
    values = {"job": job, "tenant_id": tenant or "", "rule": None if limit is None else GateRule(job, limit).name}
    with changing() as (connection, _version):
        gone = fetch(connection, SQL["remove_job_limits"], values)
        for row in gone:
            execute(connection, ADMISSION["renumber_gates"], {"name": row["rule"]})
            Change(by, reason).note(connection, "remove limit", row["rule"], _numbers(row), {}, tenant)
    return len(gone)


def list_limits(*, job: str | None = None, tenant: str | None = None) -> list[JobLimit]:
    """The limits of jobs: what is set on record, and what workers have noted of the code. Raises StoreError, and
    TenantContextError inside another tenant's context.
    """
    refuse_in_context("What tenants may", tenant)
    try:
        with autocommit() as connection:
            declared = fetch(connection, SQL["declared_limits"])
            set_now = fetch(connection, SQL["job_limits"], {"job": job, "tenant_id": tenant})
    except psycopg.Error as exc:
        raise explain(exc) from exc
    of_code = [
        JobLimit(row["job"], limit_of(row | row["declared"]), None, "code")
        for row in declared
        if job in {None, row["job"]}
    ]
    of_record = [
        JobLimit(
            row["job"],
            limit_of(row),
            row["tenant_id"] or None,
            "set",
            row["changed_at"],
            row["changed_by"],
            row["reason"],
        )
        for row in set_now
    ]
    return sorted([*of_code, *of_record], key=lambda one: (one.job, one.source, one.tenant_id or ""))


def limit_history(*, subject: str | None = None, tenant: str | None = None, limit: int = 100) -> list[LimitChange]:
    """What was changed of plans, tenants' limits, those of jobs, and guards, the newest first. subject: a plan, a
    tenant, a limit by its name, or a guard. Raises StoreError, and TenantContextError inside another tenant's context.
    """
    refuse_in_context("What tenants may", tenant)
    values = {"actions": list(ACTIONS), "subject": subject, "tenant_id": tenant, "limit": limit}
    try:
        with autocommit() as connection:
            rows = fetch(connection, SQL["history"], values)
    except psycopg.Error as exc:
        raise explain(exc) from exc
    return [
        LimitChange(
            row["at"], row["who"], row["via"], row["action"], row["subject"], row["tenant_id"], row["reason"],
            row["details"].get("old", {}), row["details"].get("new", {}),
        )
        for row in rows
    ]  # fmt: skip


def limit_of(row: Mapping[str, Any]) -> Limit:
    """The limit that a row of numbers stands for."""
    per, key = row["per"], row["key_field"]
    if row["kind"] == AtOnce.kind:
        return AtOnce(row["at_once"], lend_to=row["lend_to"], per=per, key=key)
    return Throttle(row["rate"], every=row["period"], burst=row["burst"], per=per, key=key)


def find_job_event(job: str) -> JobEvent:
    """A job that this process or a worker has, with its event. Raises InvalidOptionError, which has the nearest
    name.
    """
    pairs = known_jobs()
    events = sorted({event for event, name in pairs if name == job})
    if not events:
        known = sorted({name for _event, name in pairs})
        raise InvalidOptionError(
            "job",
            f"is {job!r}, and neither this process nor a worker has such a job.{did_you_mean(str(job), known)}",
            hint="Name its module in CGK_JOB_MODULES, or start a worker that has it.",
        )
    event = events[0]
    return JobEvent(job, event, len({name for its, name in pairs if its == event}) == 1)


def known_jobs() -> set[tuple[str, str]]:
    """The jobs of this process and of the workers on record, each with its event before it. Raises StoreError."""
    import_job_modules()
    here = {(job.event, job.id) for job in all_jobs()}
    try:
        with autocommit() as connection:
            said = [row["name"] for row in fetch(connection, SQL["executed"])]
    except psycopg.Error as exc:
        raise explain(exc) from exc
    return here | {(event, job) for event, _, job in (name.partition(":") for name in said) if job}


def _check(known: JobEvent, limit: object, tenant: str | None) -> None:
    model: type[TenantEvent] | None = find_event(known.event)
    fields = None if model is None else [field.alias or name for name, field in model.model_fields.items()]
    check_rules(known.job, [limit], fields)  # type: ignore[list-item]  # it says what is no limit
    if tenant is None:
        return
    registry.require(tenant)
    if isinstance(limit, AtOnce | Throttle) and limit.per == "all":
        raise InvalidOptionError(
            "tenant",
            f'is {tenant!r}, and the limit is per="all": of all tenants together.',
            hint='Leave tenant out, or per="all".',
        )


def _numbers(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in _NUMBERS if row.get(name) is not None}
