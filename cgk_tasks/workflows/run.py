"""What a workflow's context says of its run, whether its function is a coroutine or not."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from cgk_tasks.errors import ChildTimeoutError, TenantContextError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import parse_event
from cgk_tasks.flow.new_run import check_size
from cgk_tasks.jobs.step_scope import session_of_step
from cgk_tasks.workflows.children import Child, Children, child, timed_out_child
from cgk_tasks.workflows.doing import Doing, Way
from cgk_tasks.workflows.events import key_of, name_of
from cgk_tasks.workflows.leg import Leg
from cgk_tasks.workflows.results import decoded, error_of
from cgk_tasks.workflows.signal_urls import Issue, signal_url
from cgk_tasks.workflows.sources import EventSource, SignalSource, TimerSource, signal_source, timer_source
from cgk_tasks.workflows.suspension import WorkflowContinued
from cgk_tasks.workflows.undoing import undo
from cgk_tasks.workflows.waits import Waits

if TYPE_CHECKING:
    import structlog
    from sqlalchemy.orm import Session

    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.runs.steps import Memo
    from cgk_tasks.runs.undo import Undo
    from cgk_tasks.tenancy.models import Tenant

E = TypeVar("E", bound=TenantEvent)
P_co = TypeVar("P_co", covariant=True)


class RunOfWorkflow(Generic[P_co]):
    """What both kinds of contexts say of the run."""

    def __init__(self, ctx: JobContext[P_co], leg: Leg, version: int, way: Way) -> None:
        self._ctx = ctx
        self._leg = leg
        self._version = version
        self._doing = Doing(leg, ctx.run_id, ctx.tenant, way)
        self._waits = Waits(leg)
        self._children = Children(leg, ctx)

    @property
    def payload(self) -> P_co:
        """The event that began the run."""
        return self._ctx.payload

    @property
    def run_id(self) -> str:
        return self._ctx.run_id

    @property
    def tenant(self) -> Tenant:
        return self._ctx.tenant

    @property
    def tenant_id(self) -> str:
        return self._ctx.tenant.id

    @property
    def version(self) -> int:
        """The version of the workflow that the run began with."""
        return self._version

    @property
    def is_replaying(self) -> bool:
        """Whether there are steps on record that the function has not come to yet."""
        return self._leg.is_replaying

    @property
    def logger(self) -> structlog.stdlib.BoundLogger:
        """A logger whose lines carry tenant, event, run and attempt. Outside of steps each leg writes them again."""
        return self._ctx.logger

    @property
    def db(self) -> Session:
        """The tenant's database session, in a step alone. Do not commit it: it commits with the step's memo, so that
        what the step wrote is there exactly once. Raises ConfigurationError, UnknownTenantError.
        """
        return session_of_step(self._ctx.has_database)

    async def undo(self, why: Undo) -> NoReturn:
        """Undo what the run has done, when its function has said how. For the workflow itself."""
        await undo(self._leg, self._doing, self._ctx, why)

    def signal(self, name: str, kind: Any = Any) -> SignalSource:
        """For `wait_any`: a signal, whose payload is read as `kind`."""
        return signal_source(name, kind)

    def event(self, event: str | type[TenantEvent], *, match: object, field: str | None = None) -> EventSource:
        """For `wait_any`: an event, as `wait_for_event` waits for it."""
        name = name_of(event)
        return EventSource(name, key_of(self._leg.waits_for, name, field, match).mail)

    def timer(self, duration: float | timedelta) -> TimerSource:
        """For `wait_any`: a time, counted from the moment when the wait begins."""
        return timer_source(duration)

    def child(self, event: str | TenantEvent, payload: Mapping[str, Any] | None = None, /, **options: Any) -> Child:
        """For `gather`: an event that is invoked, as `invoke` does it."""
        return child(event, payload, options)

    def _continued(self, payload: Mapping[str, Any] | TenantEvent) -> WorkflowContinued:
        own = {"tenantId": self.tenant_id} if isinstance(payload, Mapping) and "tenant_id" not in payload else {}
        event = parse_event(self._ctx.event, payload if isinstance(payload, TenantEvent) else {**own, **payload})
        if event.tenant_id != self.tenant_id:
            raise TenantContextError(
                f"A workflow of tenant {self.tenant_id!r} cannot continue for {event.tenant_id!r}."
            )
        text = event.to_json().decode()
        check_size(event.event_name, text)
        return WorkflowContinued(text)

    def _value(self, memo: Memo, kind: Any) -> Any:
        if memo.state == "failed":
            raise error_of(memo)
        if memo.state == "timed_out" and memo.kind == "invoke":
            raise ChildTimeoutError(memo.name, timed_out_child(self.run_id, memo))
        return None if memo.state == "timed_out" else decoded(memo.result or "null", kind, memo.name)

    def _signal_url(self, issue: Issue, name: str, payload: object) -> str:
        return signal_url(self.run_id, self.tenant_id, name, issue, payload)


def new_uuid() -> uuid.UUID:
    return uuid.uuid4()
