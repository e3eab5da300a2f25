"""`define_workflow`: workflows are jobs whose function is given a workflow's context."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar, cast, overload

from cgk_tasks.admission.rules import Rule
from cgk_tasks.admission.send_rules import Batch
from cgk_tasks.errors import ConfigurationError, RetryLater
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import define_job, find_job
from cgk_tasks.jobs.retry import TASK_RUNNER_DEFAULT, RetryConfig
from cgk_tasks.jobs.types import Middleware
from cgk_tasks.runs.steps import Memo, StepRecord, Suspension
from cgk_tasks.workflows.async_context import AsyncWorkflowContext
from cgk_tasks.workflows.calling import called
from cgk_tasks.workflows.context import WorkflowContext
from cgk_tasks.workflows.events import AwaitedEvent, add_jobs_for, checked_events
from cgk_tasks.workflows.leg import BEGIN, Leg
from cgk_tasks.workflows.memory import MemoryRecord
from cgk_tasks.workflows.names import KnownNames, names_in
from cgk_tasks.workflows.suspension import WorkflowSuspended

E = TypeVar("E", bound=TenantEvent)
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

_VERSION_SECONDS: Final = 30.0
"""A run whose version this worker does not have is looked at again after so long."""


class WorkflowDecorator(Protocol[E]):
    """What `define_workflow(event=Model)` gives: a decorator for functions that take a context of that model."""

    @overload
    def __call__(
        self, function: Callable[[AsyncWorkflowContext[E]], Coroutine[Any, Any, R]], /
    ) -> Callable[[AsyncWorkflowContext[E]], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[[WorkflowContext[E]], R], /) -> Callable[[WorkflowContext[E]], R]: ...


@dataclass(frozen=True, slots=True)
class Version:
    """A function of a workflow. accepts: older versions whose runs it can go on with."""

    number: int
    function: Callable[..., Any]
    accepts: frozenset[int]
    names: KnownNames
    waits_for: tuple[AwaitedEvent, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        return getattr(self.function, "__module__", ""), getattr(self.function, "__qualname__", repr(self.function))


class Workflow:
    """The handler of a workflow's job: it finds the run's version, and takes it one leg further."""

    def __init__(self, workflow_id: str, event: str, retry: RetryConfig) -> None:
        self.id = workflow_id
        self.event = event
        self.retry = retry
        self.versions: dict[int, Version] = {}
        self.__qualname__ = workflow_id  # by which the registry of jobs knows functions

    def add(self, version: Version) -> None:
        """Raises ConfigurationError for a version that another function has."""
        known = self.versions.get(version.number)
        if known is not None and known.place != version.place:
            raise ConfigurationError(
                f"Version {version.number} of workflow {self.id!r} is defined twice: by {'.'.join(known.place)} and by "
                f"{'.'.join(version.place)}.",
                hint="Give one of them another version, or another id.",
            )
        self.versions[version.number] = version

    @property
    def newest(self) -> Version:
        return self.versions[max(self.versions)]

    def version_for(self, number: int) -> Version | None:
        """The version itself, else the newest that accepts it."""
        accepting = (self.versions[one] for one in sorted(self.versions, reverse=True))
        return self.versions.get(number) or next((one for one in accepting if number in one.accepts), None)

    def __call__(self, ctx: JobContext[Any]) -> Any:
        if ctx.step_record is not None:
            return self._go_on(ctx, ctx.step_record)
        try:
            return self._go_on(ctx, MemoryRecord())
        except WorkflowSuspended as exc:
            raise self._not_kept(exc.suspension) from exc

    def _not_kept(self, suspension: Suspension) -> BaseException:
        """What ends a run that would wait, where nobody keeps a record of it."""
        if suspension.failure is not None and suspension.failure.exception is not None:
            return suspension.failure.exception
        return ConfigurationError(
            f"Workflow {self.id!r} waits, and nobody keeps its steps.",
            hint="Send its event to a worker, or to the local provider.",
        )

    def _go_on(self, ctx: JobContext[Any], record: StepRecord) -> Any:
        memos = record.load()
        begin = next((memo for memo in memos if memo.kind == "begin"), None)
        number = self.newest.number if begin is None else int(json.loads(begin.result or "{}").get("version", 1))
        version = self.version_for(number)
        if version is None:
            raise RetryLater(_VERSION_SECONDS, f"this worker does not have version {number} of workflow {self.id}")
        if begin is None:
            begin = Memo(BEGIN, 1, 0, "begin", "begun", result=json.dumps({"version": number}))
        ctx.attempt = begin.attempts + 1
        record.at_failure = begin._replace(attempts=ctx.attempt)
        leg = Leg(record, self.id, version.names, self.retry, memos, begin, version.waits_for)
        value = called(version.function, ctx, leg, number)
        leg.check_goes_on()
        leg.check_all_asked()
        return value


@overload
def define_workflow(
    workflow_id: str,
    *,
    event: type[E],
    version: int = ...,
    accepts: Collection[int] = ...,
    retry: RetryConfig | None = ...,
    waits_for: Collection[tuple[str | type[TenantEvent], str]] = ...,
    timeout: float | timedelta | None = ...,
    concurrency: int | None = ...,
    limits: Sequence[Rule] = ...,
    middleware: Sequence[Middleware] = ...,
    queue: str | None = ...,
    priority: int | None = ...,
    ttl: float | timedelta | None = ...,
) -> WorkflowDecorator[E]: ...
@overload
def define_workflow(
    workflow_id: str,
    *,
    event: str,
    version: int = ...,
    accepts: Collection[int] = ...,
    retry: RetryConfig | None = ...,
    waits_for: Collection[tuple[str | type[TenantEvent], str]] = ...,
    timeout: float | timedelta | None = ...,
    concurrency: int | None = ...,
    limits: Sequence[Rule] = ...,
    middleware: Sequence[Middleware] = ...,
    queue: str | None = ...,
    priority: int | None = ...,
    ttl: float | timedelta | None = ...,
) -> Callable[[F], F]: ...
def define_workflow(
    workflow_id: str,
    *,
    event: str | type[TenantEvent],
    version: int = 1,
    accepts: Collection[int] = (),
    retry: RetryConfig | None = None,
    waits_for: Collection[tuple[str | type[TenantEvent], str]] = (),
    timeout: float | timedelta | None = None,
    concurrency: int | None = None,
    limits: Sequence[Rule] = (),
    middleware: Sequence[Middleware] = (),
    queue: str | None = None,
    priority: int | None = None,
    ttl: float | timedelta | None = None,
) -> Callable[..., Any]:
    """Register the decorated function as a workflow: a job that remembers its steps, and waits without a worker.

        @define_workflow("onboard", event="customer.created")
        def onboard(wf: WorkflowContext[CustomerCreated]) -> str:
            account = wf.step("create-account", create_account, wf.payload.email)
            wf.sleep("trial", timedelta(days=14))
            return wf.step("remind", send_reminder, account)

    An `async def` function is given an AsyncWorkflowContext. version: a run keeps the one that it began with. Several
    functions may have the id with versions of their own; new runs begin with the newest. accepts: older versions whose
    runs this function goes on with, and reads `wf.version`. retry: of steps that name no policy, and of errors between
    steps; 3 attempts if there is none. waits_for: the events that it waits for, each with the field by which it knows
    its own: [("order.paid", "orderId")]. timeout: of one leg, and so of what executes, never of a wait. limits: as in
    `define_job`, but for Batch. A run that waits is not on and counts in no AtOnce; in a Throttle each time that it
    goes on is a start. ttl: of a run that has not begun; one that waits does not expire. The others are as in
    `define_job`. Raises ConfigurationError, UnknownEventError.
    """
    if type(version) is not int or version < 1:
        raise ConfigurationError(f"Workflow {workflow_id!r}: version must be a whole number from 1, not {version!r}.")
    policy = retry or TASK_RUNNER_DEFAULT

    def register(function: F) -> F:
        job = find_job(workflow_id)
        name = event if isinstance(event, str) else event.event_name
        workflow = job.handler if job is not None and isinstance(job.handler, Workflow) else None
        if workflow is None:
            workflow = Workflow(workflow_id, name, policy)
        elif workflow.event != name:
            raise ConfigurationError(
                f"Workflow {workflow_id!r} is defined for {workflow.event} and for {name}.",
                hint="All versions of a workflow are for the same event: give one of them another id.",
            )
        _check_function(workflow_id, function)
        _check_limits(workflow_id, limits)
        events = checked_events(workflow_id, waits_for)
        workflow.add(Version(version, function, frozenset(accepts), names_in(function), events))
        add_jobs_for(events)
        if workflow.newest.number == version:
            workflow.retry = policy
            define_job(
                workflow_id, event=name, retry=policy, timeout=timeout, concurrency=concurrency, limits=limits,
                middleware=middleware, queue=queue, priority=priority, ttl=ttl,
            )(cast("Callable[[JobContext[Any]], Any]", workflow))  # fmt: skip
        return function

    return register


def _check_limits(workflow_id: str, limits: object) -> None:
    if isinstance(limits, list | tuple) and any(isinstance(rule, Batch) for rule in limits):
        raise ConfigurationError(
            f"Workflow {workflow_id!r} cannot have a Batch: a workflow is about one event.",
            hint="Give the Batch to a job, and let that send the workflow's event.",
        )


def _check_function(workflow_id: str, function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(
            f"Workflow {workflow_id!r}: its function must take one argument, the context: def {name}(wf): ..."
        ) from None


__all__ = ["Workflow", "WorkflowSuspended", "define_workflow"]
