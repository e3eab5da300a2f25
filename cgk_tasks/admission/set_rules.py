"""What is set on record beside what the code declares, as this process knows it: limits of tenants and of jobs, pauses.

A sender or worker sees at each run whether any of that is about it, so nothing is asked for a run. That something has
changed the process learns where it looks anyway whether passes are made (`Switch`); then it reads what is new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import psycopg

from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rules import TENANT_AT_ONCE, TENANT_STARTS, GateRule, Limit, guard_rules, set_rule
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.runtime import Part, current_runtime
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements

SQL, PAUSES = statements("limits"), statements("pauses")


class OfTenant(NamedTuple):
    """What a tenant may. rules: at which gates all of its runs wait. The others are looked at when it sends."""

    rules: tuple[GateRule, ...] = ()
    daily_runs: int | None = None
    max_waiting: int | None = None


class OfJob(NamedTuple):
    """A limit that is set for a job; for a tenant, or for all (''). is_only_job: of its event."""

    tenant_id: str
    event: str
    is_only_job: bool
    rule: GateRule


class OfPause(NamedTuple):
    """What is paused: all runs that have each of these, where it is not None. drops: what waits is cancelled."""

    queue: str | None
    tenant_id: str | None
    event: str | None
    drops: bool = False


_FREE = OfTenant()


class SetRules:
    """As of CGK_RULES_REFRESH_SECONDS ago at most, or as of when PostgreSQL last answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.look_at = 0.0
        """When to look again, by the clock of `time.monotonic`."""
        self._version = 0
        self._tenants: Mapping[str, OfTenant] = {}
        self._jobs: Mapping[str, Sequence[OfJob]] = {}
        self._events: Mapping[str, Sequence[OfJob]] = {}
        self.pauses: Sequence[OfPause] = ()

    def __bool__(self) -> bool:
        """Whether anything is set that says when a run may start."""
        return bool(self._tenants or self._jobs or self.pauses)

    def is_paused(self, queue: str, tenant_id: str, event: str) -> bool:
        """Whether runs of these do not start. Of queues that are paused as a whole the claim knows."""
        return any(
            pause.queue in {None, queue} and pause.tenant_id in {None, tenant_id} and pause.event in {None, event}
            for pause in self.pauses
        )

    def of_tenant(self, tenant_id: str) -> OfTenant:
        return self._tenants.get(tenant_id, _FREE)

    def rules(self, tenant_id: str, job: str, limits: Sequence[Limit | Guard] = ()) -> tuple[GateRule, ...]:
        """All that a run of a job is under, which has these limits by its code, and uses these guards."""
        declared = tuple([GateRule(job, limit) for limit in limits if not isinstance(limit, Guard)])
        guards = () if len(declared) == len(limits) or not SWITCH.current().has_guards else guard_rules(limits)
        if not self:
            return declared + guards
        found = self._set(self._jobs.get(job, ()), tenant_id, declared)
        return self.of_tenant(tenant_id).rules + declared + found + guards

    def rules_of_event(self, tenant_id: str, event: str) -> tuple[GateRule, ...]:
        """The same for who does not know the job, and that it has no limits by its code. Nothing of events with several
        jobs: their runs become one for each of them.
        """
        found = [one for one in self._events.get(event, ()) if one.is_only_job]
        return self.of_tenant(tenant_id).rules + self._set(found, tenant_id, ())

    def _set(self, found: Sequence[OfJob], tenant_id: str, declared: Sequence[GateRule]) -> tuple[GateRule, ...]:
        names = {rule.name for rule in declared}
        mine = {one.rule.name: one.rule for one in found if one.tenant_id in {"", tenant_id}}
        return tuple(rule for name, rule in mine.items() if name not in names)

    def refresh(self) -> None:
        """Read what has changed, if something has. Raises psycopg.Error."""
        switch = SWITCH.current()
        self._read(switch.flow_version)
        self.look_at = switch.trusted_until

    def _read(self, version: int) -> None:
        if version == self._version:
            return
        with self._lock:
            if version == self._version:
                return
            if version < self._version:  # nobody makes passes any more, or it is another database
                self._tenants, self._jobs, self._events, self.pauses, self._version = {}, {}, {}, (), 0
            if version:
                with autocommit() as connection:
                    changed = fetch(connection, SQL["changed_tenants"], {"version": self._version})
                    jobs = [_of_job(row) for row in fetch(connection, SQL["set_rules"])]
                    pauses = [OfPause(**row) for row in fetch(connection, PAUSES["known_pauses"])]
                tenants = {**self._tenants, **{row["tenant_id"]: _of_tenant(row) for row in changed}}
                self._tenants = {tenant: may for tenant, may in tenants.items() if may != _FREE}
                self._jobs = _by([(one.rule.job, one) for one in jobs])
                self._events = _by([(one.event, one) for one in jobs])
                self.pauses = pauses
            self._version = version


def _by(pairs: Sequence[tuple[str, OfJob]]) -> dict[str, list[OfJob]]:
    found: dict[str, list[OfJob]] = {}
    for name, one in pairs:
        found.setdefault(name, []).append(one)
    return found


def _of_tenant(row: Row) -> OfTenant:
    rules = (TENANT_AT_ONCE,) * row["is_at_once"] + (TENANT_STARTS,) * row["is_throttled"]
    return OfTenant(rules, row["daily_runs"], row["max_waiting"])


def _of_job(row: Row) -> OfJob:
    rule = set_rule(row["job"], row["kind"], row["per"], row["key_field"])
    return OfJob(row["tenant_id"], row["event"], row["is_only_job"], rule)


SET_RULES = Part(SetRules)


def set_rules() -> SetRules:
    """What this process knows, brought up to date if it is time and PostgreSQL answers."""
    known = SET_RULES.current()
    if (now := time.monotonic()) >= known.look_at:
        known.look_at = (
            now + get_settings().rules_refresh_seconds
        )  # for whoever asks meanwhile, or if it does not answer
        with suppress(psycopg.Error, ConfigurationError):
            known.refresh()
    return known


def look_again() -> None:
    """Something has been changed here: this process looks at the next occasion."""
    current_runtime().drop(SWITCH)
    SET_RULES.current().look_at = 0.0
