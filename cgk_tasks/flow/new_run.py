"""From the options of a send to a `NewRun`, checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cgk_tasks.config import get_settings
from cgk_tasks.errors import LONGEST_WAIT_SECONDS, InvalidOptionError, PayloadTooLargeError, TenantContextError
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.runs import tracing
from cgk_tasks.runs.models import NewRun, State, is_priority, is_queue_name, new_run_id
from cgk_tasks.runs.text import storable
from cgk_tasks.sql.clock import database_now, known_now
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.context import find_current_tenant

if TYPE_CHECKING:
    from cgk_tasks.tenancy.models import Tenant

_FARTHEST = timedelta(seconds=LONGEST_WAIT_SECONDS)
"""No time may lie farther away: readers of the record know no year after 9999 and none before 1."""


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How a run is sent. Durations are seconds or timedelta; datetimes must be aware. No time is
    more than a hundred years away.
    """

    delay: float | timedelta | None = None
    run_at: datetime | None = None
    idempotency_key: str | None = None
    max_attempts: int | None = None
    queue: str | None = None
    priority: int | None = None
    expires: float | timedelta | datetime | None = None


NO_OPTIONS = SendOptions()
"""As most runs are sent. The same object, so that it is known at a glance."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run comes from, if not from a plain send."""

    run_id: str | None = None
    job: str | None = None
    parent_id: str | None = None
    replay_of: str | None = None
    canvas: str | None = None
    scheduled_for: datetime | None = None
    """The nominal time: a child has its parent's, a replay that of the run it repeats."""
    trace: str | None = None


_NOWHERE = Origin()


def new_run(
    event: str,
    tenant_id: str,
    payload: str,
    options: SendOptions,
    origin: Origin | None = None,
    tenant: Tenant | None = None,
    search_fields: str | None = None,
) -> NewRun:
    """Check the options and make the run. `tenant`: as known already; None asks the registry. search_fields: what can
    be searched of the payload, where it is known.

    Raises InvalidOptionError, PayloadTooLargeError, UnknownTenantError, and TenantContextError for a send that names
    another tenant than the one whose work runs now.
    """
    _refuse_of_another(event, tenant_id)
    origin = origin or _NOWHERE
    check_size(event, payload)
    clock = database_now if tenant is None else known_now  # a provider that knows the tenant may have no database
    tenant = tenant or registry.require(tenant_id)
    state: State = "held" if tenant.state == "suspended" else "pending"
    run_id = origin.run_id or new_run_id()
    trace = origin.trace or tracing.sent(event, tenant_id, run_id)
    queue, priority, rules = ROUTES.current().of_send(event)
    if options is NO_OPTIONS and rules is None:
        return NewRun(
            run_id, tenant_id, event, payload, queue, priority, state, origin.job, None, None,
            None, None, origin.parent_id, origin.replay_of, origin.canvas, origin.scheduled_for, trace,
            search_fields,
        )  # fmt: skip
    # A run that is made in any case: an operator repeats one, or a workflow waits for the end of this very one.
    is_ruled = rules is not None and bool(rules.rules) and origin.replay_of is None and origin.parent_id is None
    ttl = None if rules is None or options.expires is not None else rules.ttl
    now = clock()
    run_at = due_time(options.delay, options.run_at, now)
    if state == "pending" and run_at is not None and run_at > now:
        state = "scheduled"
    return NewRun(
        id=run_id, tenant_id=tenant_id, event=event, payload=payload,
        queue=queue if options.queue is None else queue_name(options.queue),
        priority=priority if options.priority is None else _priority(options.priority),
        state=state, job=origin.job, max_attempts=_max_attempts(options.max_attempts),
        run_at=run_at, expires_at=_expiry(options.expires, now, run_at or now, ttl),
        idempotency_key=_key(options.idempotency_key), parent_id=origin.parent_id, replay_of=origin.replay_of,
        canvas=origin.canvas, scheduled_for=origin.scheduled_for, trace=trace, search_fields=search_fields,
        is_ruled=is_ruled, ttl=ttl if is_ruled else None,
    )  # fmt: skip


class NewRuns:
    """Makes the runs of a send of many. What is the same for all of a tenant's runs of an event is looked up once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], NewRun] = {}
        self._small = get_settings().max_payload_bytes // 4

    def make(
        self, event: str, tenant_id: str, payload: str, options: SendOptions, search_fields: str | None = None
    ) -> NewRun:
        """As `new_run`, and raises the same."""
        known = self._known.get((event, tenant_id)) if options is NO_OPTIONS else None
        if known is not None:
            if len(payload) > self._small:
                check_size(event, payload)
            return known.like_this(new_run_id(), payload, search_fields)
        run = new_run(event, tenant_id, payload, options, search_fields=search_fields)
        if options is NO_OPTIONS and run.trace is None and run.expires_at is None and not run.is_ruled:
            self._known[event, tenant_id] = run
        return run


def _refuse_of_another(event: str, tenant_id: str) -> None:
    here = find_current_tenant()
    if here is not None and here.id != tenant_id:
        raise TenantContextError(
            f"{event} was sent for tenant {tenant_id!r} in the context of tenant {here.id!r}.",
            hint="Is it the right tenant? Code that works for several uses platform_context().",
        )


def check_size(event: str, payload: str) -> None:
    """Raises PayloadTooLargeError."""
    most = get_settings().max_payload_bytes
    # A character is up to four bytes: most payloads need not be encoded to be known as small enough.
    if 4 * len(payload) > most and (size := len(payload.encode())) > most:
        raise PayloadTooLargeError(event, size, most)


def due_time(delay: float | timedelta | None, run_at: datetime | None, now: datetime) -> datetime | None:
    """When a run is due: None for at once. Raises InvalidOptionError."""
    if delay is not None and run_at is not None:
        raise InvalidOptionError("delay", "was given together with run_at.", hint="Give one of them")
    if run_at is not None:
        return _moment("run_at", run_at, now)
    if delay is None:
        return None
    pause = _duration("delay", delay)
    return now + pause if pause else None


def _duration(option: str, value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise InvalidOptionError(option, f"must be seconds or a timedelta, not {type(value).__name__}")
    try:
        duration = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except OverflowError:
        raise _too_far(option) from None
    except ValueError:
        raise InvalidOptionError(option, f"cannot be {value} seconds") from None
    if duration > _FARTHEST:
        raise _too_far(option)
    if duration < timedelta(0):
        raise InvalidOptionError(
            option, f"is negative ({duration.total_seconds():g} s).", hint="Leave it out to run at once"
        )
    return duration


def _too_far(option: str) -> InvalidOptionError:
    return InvalidOptionError(option, "is more than a hundred years away")


def _moment(option: str, value: object, now: datetime) -> datetime:
    if not isinstance(value, datetime):
        raise InvalidOptionError(option, f"must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidOptionError(
            option,
            "has no time zone.",
            hint="Use an aware datetime, for instance datetime.now(UTC) + timedelta(days=1)",
        )
    if abs(value - now) > _FARTHEST:
        raise _too_far(option)
    return value


def _expiry(
    value: float | timedelta | datetime | None, now: datetime, due: datetime, ttl: float | None
) -> datetime | None:
    """What the send says, else what the event's job does."""
    if value is None:
        return None if ttl is None else due + timedelta(seconds=ttl)
    return _moment("expires", value, now) if isinstance(value, datetime) else now + _duration("expires", value)


def _priority(value: int) -> int:
    if not is_priority(value):
        raise InvalidOptionError("priority", f"must be a whole number from 0 (can wait) to 9 (urgent), not {value!r}")
    return value


def _max_attempts(value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000):
        raise InvalidOptionError("max_attempts", f"must be a whole number from 1 to 10000, not {value!r}")
    return value


def queue_name(value: str) -> str:
    """The name, if it can be that of a queue. Raises InvalidOptionError."""
    if not is_queue_name(value):
        raise InvalidOptionError("queue", f"must be a name of 1 to 200 printable characters, not {value!r}")
    return value


def _key(value: str | None) -> str | None:
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 500 or storable(value) != value):
        raise InvalidOptionError("idempotency_key", "must be a text of 1 to 500 characters that PostgreSQL can keep")
    return value
