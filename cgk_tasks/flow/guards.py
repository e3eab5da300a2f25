"""Guards as operators see them: how each is now, and closing and opening one by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import psycopg

from cgk_tasks.admission.gates import WantedGate, gate_ids, gate_key
from cgk_tasks.admission.guard_decisions import move_gates, put_states
from cgk_tasks.admission.guard_moves import GuardState
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.changes import Change, changing
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.far_times import LATEST
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, explain, fetch, statements
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL = statements("guards")

_MOST_LISTED: Final = 1000

Shown = Literal["open", "closed", "probing"]


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """A guard now. tenant_id: None where it is for all together, and for one per tenant that has moved for nobody.

    state: `open`; `closed`, until `opens_at` (None: until somebody opens it); or `probing`: after failures one run at a
    time tries. limit: how many of its runs may be on at once now, of `most`. cause: why it is closed, or was:
    `throttled` (the partner asked to wait), `failing` (five failures in a row) or `shut` (by hand); else None. asked,
    failed: how often the partner asked to wait, and failed, so far.
    """

    name: str
    per: str
    tenant_id: str | None
    state: Shown
    limit: int
    most: int
    opens_at: datetime | None
    cause: str | None
    reason: str
    shut_by: str
    failures: int
    asked: int
    failed: int


def list_guards(name: str | None = None, *, tenant: str | None = None) -> list[GuardStatus]:
    """The guards that workers have noted; of one per tenant the tenants for which it is not as it is declared.

    Raises StoreError, and TenantContextError inside another tenant's context.
    """
    refuse_in_context("What guards say", tenant)
    values = {"name": name, "key": tenant, "limit": _MOST_LISTED}
    try:
        with autocommit() as connection:
            return [guard_status(row) for row in fetch(connection, SQL["list"], values)]
    except psycopg.Error as exc:
        raise explain(exc) from exc


def close_guard(
    name: str, *, tenant: str | None = None, until: datetime | None = None, by: str = "", reason: str = ""
) -> GuardStatus:
    """Let no run that uses the guard start until then; None for when somebody opens it. What runs goes on.

    tenant: whose, of a guard per tenant. Raises InvalidOptionError, UnknownTenantError, StoreError.

        close_guard("shopify", until=datetime.now(UTC) + timedelta(hours=1), by="ada", reason="their maintenance")
    """
    if until is not None and (not isinstance(until, datetime) or until.tzinfo is None or until <= database_now()):
        raise InvalidOptionError(
            "until", f"must be a time to come, with its time zone, not {until!r}.",
            hint="datetime.now(UTC) + timedelta(hours=2)",
        )  # fmt: skip
    opens_at = float("inf") if until is None else until.timestamp()
    return _by_hand("close guard", name, tenant, Change(by, reason), lambda old, _most: _shut(old, opens_at))


def open_guard(name: str, *, tenant: str | None = None, by: str = "", reason: str = "") -> GuardStatus:
    """Open a guard, whatever has closed it, for as many at once as are declared. It moves on from there.

    Raises InvalidOptionError, UnknownTenantError, StoreError.
    """
    return _by_hand("open guard", name, tenant, Change(by, reason), lambda _old, most: GuardState("open", float(most)))


def _shut(old: GuardState, opens_at: float) -> GuardState:
    return old._replace(state="shut", opens_at=opens_at, failures=0, closures=0)


def _by_hand(
    action: str, name: str, tenant: str | None, change: Change, new: Callable[[GuardState, int], GuardState]
) -> GuardStatus:
    guard = _find(name, tenant)
    with changing() as (connection, _version):
        key = gate_key(guard["per"], tenant or "")
        gate = gate_ids(connection, [WantedGate(guard["rule_id"], key, at_once=guard["at_once"])])[0]
        before = fetch(connection, SQL["of_gate"], {"gate_id": gate})[0]
        after = new(state_of(before), guard["at_once"])
        put_states(connection, {gate: after}, closes=[after.state == "shut"])
        move_gates(connection, {gate: (after, guard["probe_after"])})
        by_hand = {"gate_id": gate, "by": change.by, "reason": change.reason}
        execute(connection, SQL["note_hand"], by_hand)
        status = _status_of(connection, gate)
        change.note(connection, action, name, _noted(guard_status(before)), _noted(status), tenant)
    return status


def _status_of(connection: Connection, gate: int) -> GuardStatus:
    return guard_status(fetch(connection, SQL["of_gate"], {"gate_id": gate})[0])


def _find(name: str, tenant: str | None) -> Row:
    refuse_in_context("What guards say")
    if tenant is not None:
        registry.require(tenant)
    try:
        with autocommit() as connection:
            found = fetch(connection, SQL["find"], {"name": name})
            names = [] if found else [row["name"] for row in fetch(connection, SQL["names"])]
    except psycopg.Error as exc:
        raise explain(exc) from exc
    if not found:
        raise InvalidOptionError(
            "guard", f"is {name!r}, and no worker has such a guard.{did_you_mean(str(name), names)}",
            hint="See them with: cgk-tasks limits guards",
        )  # fmt: skip
    is_per_tenant = found[0]["per"] == "tenant"
    if is_per_tenant != (tenant is not None):
        if is_per_tenant:
            hint = "To stop all of them, pause its jobs: cgk-tasks pause --job JOB"
            raise InvalidOptionError("tenant", f"is needed: the guard {name!r} is per tenant.", hint=hint)
        raise InvalidOptionError("tenant", f"does not fit: the guard {name!r} is for all.", hint="Leave it out.")
    return found[0]


def state_of(row: Row) -> GuardState:
    return GuardState(row["state"], row["limit_now"], row["failures"], row["closures"], row["opens_at"])


def guard_status(row: Row) -> GuardStatus:
    """A guard as its row says."""
    state, now = state_of(row), row["now"].timestamp()
    is_closed = state.is_closed(now)
    shown: Shown = "closed" if is_closed else "probing" if state.state == "failing" else "open"
    opens = row["opens"] if is_closed and row["opens"] < LATEST else None
    return GuardStatus(
        row["name"], row["per"], row["key"] or None, shown, state.at_once, row["most"],
        None if opens is None else opens.astimezone(UTC), None if state.state == "open" else state.state, row["reason"],
        row["shut_by"], state.failures, row["asked"], row["failed"],
    )  # fmt: skip


def _noted(status: GuardStatus) -> dict[str, Any]:
    opens = None if status.opens_at is None else status.opens_at.isoformat()
    return {"state": status.state, "limit": status.limit, "until": opens}
