"""Guards of jobs: `define_guard`, and the step around a job that uses one, which sees how its partner answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cgk_tasks.admission.guard_moves import GuardState, Report, moved
from cgk_tasks.admission.guard_reports import GUARD_REPORTS, Place, place_of
from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rule_checks import Per
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import ConfigurationError, LimitReached, RetryLater, RunCancelledError
from cgk_tasks.jobs.classification import asked_wait, classify_error
from cgk_tasks.jobs.rate_limit import kept_by_admission
from cgk_tasks.jobs.types import CallNext, Middleware
from cgk_tasks.logger import get_logger

if TYPE_CHECKING:
    from cgk_tasks.events.base import TenantEvent
    from cgk_tasks.jobs.context import JobContext

log = get_logger("cgk_tasks.guards")

_guards: dict[str, Guard] = {}

_RATE_LIMITED: Final = frozenset(
    {"RATE_LIMITED", "TOO_MANY_REQUESTS", "THROTTLED", "STRIPE_RATE_LIMIT", "WISE_RATE_LIMIT"}
)
_NOT_THE_PARTNERS: Final = frozenset(
    {
        "DEADLOCK", "LOCK_TIMEOUT", "CONNECTION_POOL_EXHAUSTED", "DATABASE_UNAVAILABLE", "QUEUE_FULL", "QUOTA_EXCEEDED",
        "BROKER_ERROR", "ENCRYPTION_KEY_MISSING",
    }
)  # fmt: skip
"""Codes of transient errors that the platform itself has."""
_DEFAULT_WAIT_SECONDS: Final = 60.0


def define_guard(name: str, *, at_once: int, per: Per = "all", probe_after: float | timedelta = 30.0) -> Guard:
    """Declare what several jobs use together, such as a partner's API, and how many of their runs may at once.

        define_guard("shopify", at_once=20)

        @define_job("sync-orders", event="shop.sync", uses=["shopify"])
        def sync_orders(ctx): ...

    The limit is for all workers, jobs and tenants together; with per="tenant" for each tenant, where each has an
    account of its own. It moves with how the partner answers: a 429 halves it and closes the guard for as long as the
    partner asks, each success adds 1/limit, up to `at_once`. After five failures in a row the guard is closed for
    `probe_after` (seconds or timedelta), then one run tries. A run that comes to a closed guard waits in its lane, and
    one that is answered with a 429 runs again after the time; neither uses an attempt.

    Declare it before the jobs that use it, once in an application: the same again is no error. Raises
    ConfigurationError for a value out of range, and for a name that is declared otherwise.
    """
    made = Guard(name, at_once, per, probe_after)
    known = _guards.get(name)
    if known is not None and known != made:
        raise ConfigurationError(
            f"The guard {name!r} is declared twice, and not alike: {_numbers(known)}, and {_numbers(made)}.",
            hint="Declare it once, in a module that the modules of its jobs import.",
        )
    _guards[name] = made
    return made


def _numbers(guard: Guard) -> str:
    return f"at_once={guard.at_once}, per={guard.per!r}, probe_after={guard.probe_seconds:g}"


def remove_guard(name: str) -> None:
    """Forget a guard; for tests."""
    _guards.pop(name, None)


def all_guards() -> list[Guard]:
    """Those that this process declares."""
    return list(_guards.values())


def find_guards(job_id: str, uses: object, model: type[TenantEvent]) -> tuple[Guard, ...]:
    """The guards that a job of an event names. Raises ConfigurationError, which has the nearest name."""
    if not isinstance(uses, list | tuple):
        raise ConfigurationError(
            f"Job {job_id!r}: uses must be a list of guards, not {uses!r}.", hint='uses=["shopify"]'
        )
    found = []
    for one in uses:
        name = one.name if isinstance(one, Guard) else one
        guard = _guards.get(name) if isinstance(name, str) else None
        if guard is None:
            raise ConfigurationError(
                f"Job {job_id!r} uses {one!r}, and no such guard is declared.{did_you_mean(str(name), list(_guards))}",
                hint=f"Declare it before the job: define_guard({str(name)!r}, at_once=20)",
            )
        if guard in found:
            raise ConfigurationError(f"Job {job_id!r} uses {name!r} twice.", hint="Name it once.")
        found.append(guard)
    if found and not model.durable:
        raise ConfigurationError(
            f"Job {job_id!r} cannot use guards: runs of {model.event_name} are not recorded (durable=False).",
            hint="Leave durable=False out, or use with_rate_limit().",
        )
    return tuple(found)


class Seen(NamedTuple):
    """What the end of a job says of its partner. seconds: for which it asks to wait."""

    kind: str
    seconds: float = 0.0


def judged(exc: Exception) -> Seen:
    """What an error says of the partner: `asked` to wait, `failure`, or nothing (`other`)."""
    if isinstance(exc, LimitReached):
        return Seen("other")
    if isinstance(exc, RetryLater):
        return Seen("asked", exc.delay_seconds)
    found = classify_error(exc)
    if found.kind != "transient" or found.code in _NOT_THE_PARTNERS:
        return Seen("other")
    if found.code in _RATE_LIMITED:
        return Seen("asked", _DEFAULT_WAIT_SECONDS if found.retry_after is None else found.retry_after)
    asked = asked_wait(exc)
    return Seen("failure") if asked is None else Seen("asked", asked)


def with_guards(guards: Sequence[Guard]) -> Middleware:
    """Around a job that uses guards. Where they are on record, passes have let the run through, and what it sees is
    told. The local provider keeps what it sees to itself; nobody else keeps it.
    """

    def guarded(ctx: JobContext[Any], call_next: CallNext) -> Any:
        is_on_record = kept_by_admission.get() and SWITCH.current().has_guards
        watch: Watch | None = _ON_RECORD if is_on_record else _guards_here.get()
        if watch is not None:
            for guard in guards:
                watch.enter(guard, place_of(guard, ctx.tenant_id))
        seen = Seen("success")
        try:
            return call_next()
        except RunCancelledError:
            watch = None
            raise
        except Exception as exc:
            seen = judged(exc)
            if seen.kind == "asked" and not isinstance(exc, RetryLater):
                names = ", ".join(guard.name for guard in guards)
                raise RetryLater(seen.seconds, f"{names} asks to wait") from exc
            raise
        except BaseException:  # a workflow waits, or the worker stops
            watch = None
            raise
        finally:
            if watch is not None:
                for guard in guards:
                    watch.note(guard, place_of(guard, ctx.tenant_id), seen)

    return guarded


class Watch(Protocol):
    """Who keeps what is seen."""

    def enter(self, guard: Guard, place: Place) -> None:
        """A run begins. Raises LimitReached where it may not."""

    def note(self, guard: Guard, place: Place, seen: Seen) -> None: ...


class _OnRecord:
    """What is seen is told to PostgreSQL, where the guards move."""

    def enter(self, guard: Guard, place: Place) -> None:
        """Nothing: the run was admitted."""

    def note(self, guard: Guard, place: Place, seen: Seen) -> None:  # noqa: ARG002 - as GuardsHere
        reports = GUARD_REPORTS.current()
        if seen.kind == "asked":
            reports.asked_to_wait(place, seen.seconds)
        elif seen.kind == "failure":
            reports.failure(place)
        elif seen.kind == "success":
            reports.success(place)
        else:
            reports.other(place)


_ON_RECORD: Final = _OnRecord()


class GuardsHere:
    """Guards of the local provider. They close and open as those on record do. How many runs are on at once is not
    counted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[Place, GuardState] = {}

    def enter(self, guard: Guard, place: Place) -> None:
        """Raises LimitReached while the guard is closed. Of one that failed, one run at a time may try."""
        with self._lock:
            state, now = self._states.get(place), time.time()
            if state is None:
                return
            if state.is_closed(now):
                raise LimitReached(state.opens_at - now, f"guard {guard.name!r} is closed")
            if state.state == "failing":
                self._states[place] = state._replace(opens_at=now + guard.probe_seconds)

    def note(self, guard: Guard, place: Place, seen: Seen) -> None:
        with self._lock:
            before = self._states.get(place) or GuardState("open", guard.at_once)
            now = time.time()
            after = moved(before, _report(seen, now), now, most=guard.at_once, probe_after=guard.probe_seconds)
            if after == GuardState("open", guard.at_once):
                self._states.pop(place, None)
            else:
                self._states[place] = after
        if after.is_closed(now) and not before.is_closed(now):
            log.warning("guard_closed", guard=guard.name, reason=after.state, seconds=round(after.opens_at - now, 1))


def _report(seen: Seen, now: float) -> Report:
    if seen.kind == "asked":
        return Report(asked=1, asked_at=now, until=now + seen.seconds)
    return Report(
        successes=int(seen.kind == "success"), others=int(seen.kind == "other"), failures=int(seen.kind == "failure")
    )


_guards_here: ContextVar[GuardsHere | None] = ContextVar("cgk_guards_here", default=None)


@contextmanager
def guarded_by(guards: GuardsHere) -> Iterator[None]:
    """Attempts within the block keep to these."""
    token = _guards_here.set(guards)
    try:
        yield
    finally:
        _guards_here.reset(token)
