"""`prove_idempotent`: a job does everything once, wherever its process dies; or it is said where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cgk_tasks.config import Isolation, get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import parse_event
from cgk_tasks.jobs.registry import Job, find_job
from cgk_tasks.jobs.types import Handler
from cgk_tasks.tenancy import Tenant, add_tenant, tenant_context
from cgk_tasks.testing.attempt import found_job
from cgk_tasks.testing.effects import Comparison, Effects, Look, RequestLog, Watch, Watched
from cgk_tasks.testing.executions import UNDISTURBED, Disturbance, Execution, NotEndedError

_DELIVERIES: Final = {
    "each message comes twice": Disturbance(is_twice=True),
    "a message comes again while its run is on": Disturbance(is_twice_at_once=True),
}
_SHOWN: Final = 10


class NotIdempotentError(AssertionError):
    """A job does something twice, or not at all, when its process dies. failures: what is wrong, by where it died."""

    def __init__(self, job: str, failures: Mapping[str, list[str]], tried: int) -> None:
        self.job, self.failures = job, failures
        shown = [f"  {where}:\n{_lines(what)}" for where, what in list(failures.items())[:_SHOWN]]
        more = [f"  and {len(failures) - _SHOWN} others"] if len(failures) > _SHOWN else []
        head = (
            f"{job} is not idempotent. Of {tried} disturbed executions, these did not do what an undisturbed one does:"
        )
        super().__init__("\n".join([head, *shown, *more]))


def _lines(problems: list[str]) -> str:
    return "\n".join(f"    {problem}" for problem in problems)


@dataclass(frozen=True, slots=True)
class Proof:
    """What was tried with a job. crash_points: where its process died. deliveries: what else was done with its
    messages. effects: what it has done once. asked_for: effects of which a person was asked, and where the process had
    died.
    """

    job: str
    crash_points: tuple[str, ...]
    deliveries: tuple[str, ...]
    effects: tuple[str, ...]
    asked_for: tuple[str, ...] = ()

    def __str__(self) -> str:
        seen = ", ".join(self.effects) or "nothing"
        tried = f"{len(self.crash_points)} crash points, {len(self.deliveries)} kinds of double delivery"
        return f"{self.job} is idempotent: {tried}; what was seen, each time the same: {seen}."


def prove_idempotent(
    job: Handler | Job | str,
    payload: TenantEvent | Mapping[str, Any],
    *,
    http: RequestLog | None = None,
    watch: Callable[[], object] | Watch | None = None,
    prepare: Callable[[Tenant], object] | None = None,
    meanwhile: Callable[[str], object] | None = None,
    decide: Callable[[str], Mapping[str, Any]] | None = None,
    key_header: str = "Idempotency-Key",
    isolation: Isolation | None = None,
) -> Proof:
    """Prove that a job, or a workflow, does everything once wherever its process dies.

        def test_orders_are_recorded_once(cgk_services):
            prove_idempotent(record_order, {"orderId": "o-1", "totalAmount": 5})

    It is executed on the real database, each time for a new tenant: twice undisturbed; then once for each step, and
    each statement of its record, that it passed, and its process dies there; and with messages that come twice.
    Afterwards as much must have happened as undisturbed: rows in the tenant's tables, runs that were sent, requests,
    and what is watched.

    job: the function under `@define_job` or `@define_workflow`, or the id. payload: the event, or its fields; the
    tenant is put in. http: the fixture `httpserver` of pytest-httpserver, whose requests are counted; those with the
    header `key_header` once for each key. watch: returns a number, whose changes are compared, or a value; or several
    by name. prepare: makes rows that the job needs, in the tenant's context. meanwhile: called with the run's id when
    it is sent, to send signals. decide: what a person says of an effect that may have happened, by its name, as for
    `signal_run`; without it such an effect is a failure. isolation: of the tenants, the setting's if not given.

    Raises NotIdempotentError, an AssertionError that names the points; ConfigurationError for a job that is not defined
    or that must not run twice anyway (redelivery=False), and without a database.
    """
    given = watch if isinstance(watch, Mapping) else {"watch": watch} if watch is not None else {}
    proving = _Proving(_checked(job, payload), payload, Watched(http, key_header, given), prepare, meanwhile, decide,
                       isolation)  # fmt: skip
    return proving.prove()


def _checked(job: Handler | Job | str, payload: TenantEvent | Mapping[str, Any]) -> Job:
    found = found_job(job, payload)
    if find_job(found.id) is not found:
        raise ConfigurationError(
            f"{found.id} is no job.", hint="Define it with @define_job or @define_workflow: its run needs the name."
        )
    if not found.redelivery:
        raise ConfigurationError(f"Job {found.id!r} never runs twice (redelivery=False): there is nothing to prove.")
    if get_settings().database_url is None:
        raise ConfigurationError(
            "prove_idempotent needs a database.", hint="Ask for the fixture cgk_services, or set CGK_DATABASE_URL."
        )
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    execution: Execution
    effects: Effects
    problem: str | None
    """Why it did not come to its end in order."""


@dataclass
class _Proving:
    job: Job
    payload: TenantEvent | Mapping[str, Any]
    watched: Watched
    prepare: Callable[[Tenant], object] | None
    meanwhile: Callable[[str], object] | None
    decide: Callable[[str], Mapping[str, Any]] | None
    isolation: Isolation | None

    def prove(self) -> Proof:
        first, second = self._undisturbed(), self._undisturbed()
        usual = Comparison(first.effects, second.effects)
        self._require_alike(usual, second.effects)
        points, failures, asked = [], {}, []
        for number in range(len(first.execution.passed)):
            seen = self._execute(Disturbance(die_at=number))
            died_at = seen.execution.died_at
            if died_at is None:
                break  # fewer points than before, as threads may have it
            where = f"crash {died_at}"
            points.append(died_at)
            asked += [f"{name}, {where}" for name in seen.execution.asked_for]
            if problems := _problems(usual, seen):
                failures[where] = problems
        for name, disturbance in _DELIVERIES.items():
            if problems := _problems(usual, self._execute(disturbance)):
                failures[name] = problems
        if failures:
            raise NotIdempotentError(self.job.id, failures, len(points) + len(_DELIVERIES))
        return Proof(self.job.id, tuple(points), tuple(_DELIVERIES), tuple(usual.found), tuple(asked))

    def _undisturbed(self) -> _Seen:
        seen = self._execute(UNDISTURBED)
        if seen.problem is not None:
            raise AssertionError(f"{self.job.id} does not complete, though nothing disturbs it: {seen.problem}")
        return seen

    def _require_alike(self, usual: Comparison, second: Effects) -> None:
        if problems := usual.problems(second):
            raise AssertionError(
                f"{self.job.id} does something else each time, though nothing disturbs it:\n{_lines(problems)}"
            )

    def _execute(self, disturbance: Disturbance) -> _Seen:
        tenant = add_tenant(f"proof-{os.urandom(5).hex()}", isolation=self.isolation)
        if self.prepare is not None:
            with tenant_context(tenant):
                self.prepare(tenant)
        look = Look(self.watched)
        execution = Execution(self.job.id, self._event(tenant), tenant, disturbance, self.meanwhile, self.decide)
        problem = None
        try:
            run = execution.go()
            if run.state != "completed":
                message = f": {run.error.get('message')}" if run.error else ""
                problem = f"the run is {run.state} with {run.error_code}{message}"
        except NotEndedError as exc:
            problem = str(exc)
        return _Seen(execution, look.effects(tenant, execution.run_id), problem)

    def _event(self, tenant: Tenant) -> TenantEvent:
        if isinstance(self.payload, TenantEvent):
            return self.payload.model_copy(update={"tenant_id": tenant.id})
        fields = {name: value for name, value in self.payload.items() if name not in {"tenantId", "tenant_id"}}
        return parse_event(self.job.event, {**fields, "tenantId": tenant.id})


def _problems(usual: Comparison, seen: _Seen) -> list[str]:
    return [*([seen.problem] if seen.problem is not None else []), *usual.problems(seen.effects)]
