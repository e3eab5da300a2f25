"""Jobs: an application's handlers for events, registered with `@define_job`."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar, overload

from cgk_tasks.admission.declared import SendRules, text_of_limits, text_of_send_rules
from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rules import AtOnce, Limit, Rule, check_rules
from cgk_tasks.admission.send_rules import Batch, SendRule
from cgk_tasks.config import get_settings
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import CgkTasksError, ConfigurationError, as_seconds
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import get_event
from cgk_tasks.jobs.catalog_jobs import CatalogJob, known_jobs, only_where
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.definition_checks import (
    check_handler,
    check_route,
    check_transaction,
    checked_limits,
    checked_ttl,
    name_of,
)
from cgk_tasks.jobs.guards import find_guards, with_guards
from cgk_tasks.jobs.middleware import compose_middleware, with_rate_limit
from cgk_tasks.jobs.rate_limit import job_rate_limiter
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.jobs.routes import LIMITED_JOBS, ROUTES_OF_EVENTS
from cgk_tasks.jobs.time_limit import Limits
from cgk_tasks.jobs.types import Handler, Middleware
from cgk_tasks.runs.job_events import Route

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=TenantEvent)
R = TypeVar("R")
T = TypeVar("T")


class JobDecorator(Protocol[E]):
    """What `define_job(event=Model)` gives: a decorator for functions that take a `JobContext` of that model."""

    def __call__(self, handler: Callable[[JobContext[E]], R], /) -> Callable[[JobContext[E]], R]: ...


@dataclass(frozen=True)
class Job:
    """A handler with its policy. `timeout`: soft limit in seconds, None for the setting's default, 0 for none."""

    id: str
    event: str
    handler: Handler
    retry: RetryConfig = field(default_factory=RetryConfig)
    timeout: float | None = None
    around: Middleware | None = None
    is_async: bool = False
    is_builtin: bool = False
    """One of cgk_tasks' own: it runs only while the application has no job for its event."""
    keeps_types: bool = False
    """The result is stored with the types that Celery's JSON knows."""
    ignores_result: Callable[[JobContext[Any]], bool] | None = None
    """Whether nobody wants the result of this attempt. None: somebody does."""
    queue: str | None = None
    priority: int | None = None
    """Of runs whose sender names none."""
    limits: tuple[Limit | Guard, ...] = ()
    """What says when its runs may start: its limits, and the guards that it uses."""
    send_rules: tuple[SendRule, ...] = ()
    """What decides about its event's runs when they are sent."""
    redelivery: bool = True
    """Whether a run is executed again after an attempt whose worker or process was lost."""
    shares_transaction: bool = False
    """Whether what its runs write with `ctx.db` may commit together with other runs of a packet."""
    ttl: float | None = None
    """Seconds from when a run is due, after which no attempt of it begins. Of runs whose sender says nothing else."""

    @property
    def takes_batches(self) -> bool:
        """Whether its runs have several events each."""
        return any(isinstance(rule, Batch) for rule in self.send_rules)

    @property
    def time_limits(self) -> Limits:
        """The time limits of an attempt: the soft one, and the hard one after which a job is ended that ignores it."""
        settings = get_settings()
        soft = self.timeout if self.timeout is not None else settings.default_timeout_seconds
        return Limits(soft, soft + settings.hard_timeout_grace_seconds if soft else 0.0)


_jobs: dict[str, Job] = {}
_by_event: dict[str, tuple[Job, ...]] = {}
_imported: Final[set[str]] = set()
_NOT_THE_APPLICATIONS: Final = ("<", str(Path(__file__).parents[1]), str(Path(importlib.__file__).parent))
"""How the files of frames begin that say nothing of where the application's fault is."""


@overload
def define_job(
    job_id: str,
    *,
    event: type[E],
    retry: RetryConfig | None = ...,
    timeout: float | timedelta | None = ...,
    concurrency: int | None = ...,
    limits: Sequence[Rule] = ...,
    uses: Sequence[str | Guard] = ...,
    middleware: Sequence[Middleware] = ...,
    queue: str | None = ...,
    priority: int | None = ...,
    redelivery: bool = ...,
    transaction: Literal["own", "shared"] = ...,
    ttl: float | timedelta | None = ...,
) -> JobDecorator[E]: ...
@overload
def define_job(
    job_id: str,
    *,
    event: str | None = ...,
    retry: RetryConfig | None = ...,
    timeout: float | timedelta | None = ...,
    concurrency: int | None = ...,
    limits: Sequence[Rule] = ...,
    uses: Sequence[str | Guard] = ...,
    middleware: Sequence[Middleware] = ...,
    queue: str | None = ...,
    priority: int | None = ...,
    redelivery: bool = ...,
    transaction: Literal["own", "shared"] = ...,
    ttl: float | timedelta | None = ...,
) -> Callable[[F], F]: ...
def define_job(
    job_id: str,
    *,
    event: str | type[TenantEvent] | None = None,
    retry: RetryConfig | None = None,
    timeout: float | timedelta | None = None,
    concurrency: int | None = None,
    limits: Sequence[Rule] = (),
    uses: Sequence[str | Guard] = (),
    middleware: Sequence[Middleware] = (),
    queue: str | None = None,
    priority: int | None = None,
    redelivery: bool = True,
    transaction: Literal["own", "shared"] = "own",
    ttl: float | timedelta | None = None,
) -> Callable[..., Any]:
    """Register the decorated function as a job: it runs for every run of `event`.

        @define_job("send-receipt", event="order.created", retry=RetryConfig(max_attempts=5))
        def send_receipt(ctx: JobContext[OrderCreated]) -> None:
            ctx.db.execute(...)

    The function may be `def` or `async def`. timeout: seconds or timedelta, after which JobTimeoutError is raised
    inside the job. limits: AtOnce, how many runs of the job may be on at once over all workers, and Throttle, how many
    may start in a time; the others wait in order, which uses no attempt. concurrency=5 is AtOnce(5). Others decide when
    the event is sent: RateLimit, how many sends are accepted in a time; Singleton, at most one open run; Debounce, one
    run for sends that follow each other; Batch, one run for many. All jobs of an event have the same of these. uses:
    guards by their names, which were declared with `define_guard` before.
    middleware: the first is the outermost. queue, priority (0 can wait, 9 is urgent): of runs whose sender names none;
    a sender that does not import the job learns them within ten seconds from the workers that do. A run with several
    jobs goes where all of them want to be, else by the default, and then its child runs go each to its own job's.
    redelivery: False for a job that must not run twice: where its worker or process is lost after it has begun, the run
    fails with WORKER_LOST. That costs one more statement a run. transaction: "shared" for many short runs that write
    rows with `ctx.db`: those of a tenant that come together commit together, and keep their row locks until then. ttl:
    seconds or timedelta; a run that is due for so long ends as `expired` instead of being attempted. `expires` of a
    send comes before it. Raises ConfigurationError for a job id that another function has, and for what is no queue,
    priority or duration, UnknownEventError.

    A job of the catalog takes from there what is not given here of event, retry and timeout:

        @define_job("analytics-send-ga4-purchase")
        def send_ga4_purchase(ctx: JobContext[OrderCreated]) -> None: ...
    """
    known = known_jobs().get(job_id)
    model = get_event(_event_name(job_id, event, known))
    if known is not None:
        _check_defined_once(job_id, model.event_name, known)
        retry, timeout = retry or known.retry, known.timeout if timeout is None else timeout
    seconds = None if timeout is None else as_seconds(timeout)
    if seconds is not None and seconds <= 0:
        raise ConfigurationError(f"Job {job_id!r}: timeout must be more than 0 seconds, not {seconds:g}.")
    ttl_seconds = checked_ttl(job_id, ttl, model)
    check_route(job_id, queue, priority)
    check_transaction(job_id, transaction, redelivery=redelivery)

    around, given = tuple(middleware), checked_limits(job_id, limits, model)
    rules: tuple[Limit | Guard, ...] = tuple(rule for rule in given if isinstance(rule, Limit))
    if concurrency is not None:
        check_rules(job_id, [AtOnce(concurrency), *given])
        rules = (AtOnce(concurrency), *rules)
        lease = None if seconds is None else seconds + 60.0  # longer than any grace after the soft limit
        around = (with_rate_limit(job_rate_limiter(job_id, concurrency, lease)), *around)
    if guards := find_guards(job_id, uses, model):
        rules, around = (*rules, *guards), (with_guards(guards), *around)
    if known is not None and known.where and known.event == model.event_name:
        around = (only_where(known), *around)

    def register(handler: F) -> F:
        check_handler(job_id, handler)
        add_job(
            Job(
                id=job_id,
                event=model.event_name,
                handler=handler,
                retry=retry or RetryConfig(),
                timeout=seconds,
                around=compose_middleware(*around) if around else None,
                is_async=inspect.iscoroutinefunction(handler),
                queue=queue,
                priority=priority,
                limits=rules,
                send_rules=tuple(rule for rule in given if not isinstance(rule, Limit)),
                redelivery=redelivery,
                shares_transaction=transaction == "shared",
                ttl=ttl_seconds,
            )
        )
        return handler

    return register


def _event_name(job_id: str, event: str | type[TenantEvent] | None, known: CatalogJob | None) -> str:
    if event is not None:
        return event if isinstance(event, str) else event.event_name
    if known is not None:
        return known.event
    raise ConfigurationError(
        f"Job {job_id!r} names no event, and the catalog has no job of this id.",
        hint=f"{did_you_mean(job_id, known_jobs())} Else say what it runs for: event=...".strip(),
    )


def _check_defined_once(job_id: str, event: str, known: CatalogJob) -> None:
    """A job and its scheduled task are the same work: both would do it twice."""
    for other in known.ids:
        if other != job_id and other in _jobs and _jobs[other].event == event:
            raise ConfigurationError(
                f"The jobs {job_id!r} and {other!r} are the same: every run would be done by both.",
                hint="Define one of them. The schedule starts it by either id.",
            )


def _place(job: Job) -> tuple[str, str]:
    return getattr(job.handler, "__module__", ""), name_of(job.handler)


def add_job(job: Job) -> None:
    """Register a job. The same function again (a reloaded module) replaces itself."""
    known = _jobs.get(job.id)
    if known is not None and _place(known) != _place(job):
        raise ConfigurationError(
            f"Job id {job.id!r} is used twice: by {'.'.join(_place(known))} and by {'.'.join(_place(job))}.",
            hint="Rename one.",
        )
    _check_rules_of_event(job)
    _jobs[job.id] = job
    if job.limits:
        LIMITED_JOBS.add(job.id)
    else:
        LIMITED_JOBS.discard(job.id)
    if known is not None and known.event != job.event:
        _index(known.event)
    _index(job.event)


def _check_rules_of_event(job: Job) -> None:
    """What decides about the runs of an event decides for all of its jobs."""
    for other in _by_event.get(job.event, ()):
        if other.id == job.id or other.is_builtin or job.is_builtin:
            continue
        if set(other.send_rules) != set(job.send_rules):
            raise ConfigurationError(
                f"The jobs {other.id!r} and {job.id!r} have the same event, {job.event}, and different rules for "
                "its sends.",
                hint="Give both the same RateLimit, Singleton, Debounce and Batch, or one of them an event of its own.",
            )


def remove_job(job_id: str) -> None:
    """Forget a job; for tests."""
    job = _jobs.pop(job_id, None)
    LIMITED_JOBS.discard(job_id)
    if job is not None:
        _index(job.event)


def _index(event: str) -> None:
    jobs = tuple(job for job in _jobs.values() if job.event == event)
    _by_event[event] = jobs = tuple(job for job in jobs if not job.is_builtin) or jobs
    queues, priorities = {job.queue for job in jobs}, {job.priority for job in jobs}
    if jobs:
        limits = text_of_limits(jobs[0].id, jobs[0].limits) if len(jobs) == 1 and jobs[0].limits else None
        rules = SendRules(jobs[0].id, _agreed({job.ttl for job in jobs}), jobs[0].send_rules)
        ROUTES_OF_EVENTS[event] = Route(_agreed(queues), _agreed(priorities), limits, text_of_send_rules(rules))
    else:
        ROUTES_OF_EVENTS.pop(event, None)


def _agreed(wishes: set[T | None]) -> T | None:
    return next(iter(wishes)) if len(wishes) == 1 else None


def jobs_for(event: str) -> tuple[Job, ...]:
    """The jobs of an event in the order of their definition; the application's own replace a built-in one."""
    return _by_event.get(event, ())


def events_with_jobs() -> frozenset[str]:
    """The events that this process has a job for: the application's, or a built-in one that is switched on."""
    return frozenset(event for event, jobs in _by_event.items() if jobs)


def find_job(job_id: str) -> Job | None:
    return _jobs.get(job_id)


def all_jobs() -> list[Job]:
    return list(_jobs.values())


def place_of(exc: BaseException) -> str | None:
    """File and line of the application's code in which it was raised; None where no frame is the application's."""
    for frame in reversed(traceback.extract_tb(exc.__traceback__)):
        if not frame.filename.startswith(_NOT_THE_APPLICATIONS) and "site-packages" not in frame.filename:
            return f"{frame.filename}, line {frame.lineno}"
    return None


def import_job_modules() -> None:
    """Import the modules named in CGK_JOB_MODULES. Raises ConfigurationError that names the module."""
    for name in get_settings().job_modules:
        if name in _imported:
            continue
        try:
            import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
                hint = "Check the spelling, and that its folder is the working folder or on PYTHONPATH."
                if name.endswith(".py"):
                    hint = f"Name the module, not its file: {name.removesuffix('.py')}"
                raise ConfigurationError(
                    f"CGK_JOB_MODULES names {name!r}, but there is no such module.", hint=hint
                ) from exc
            raise
        except CgkTasksError as exc:
            # Else a worker ends with what was wrong, and nobody is told where.
            raise ConfigurationError(
                f"CGK_JOB_MODULES names {name!r}, which cannot be imported: {exc.text} ({place_of(exc) or name})",
                hint=exc.hint,
            ) from exc
        _imported.add(name)
