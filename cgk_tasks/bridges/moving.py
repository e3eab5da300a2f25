"""Jobs of BullMQ become runs: each is sent first, with an idempotency key, and then removed there.

If this process dies between the two, the job is in both places. The next pass sends it with the same key, which makes
no second run, and removes it. So none is lost, and none is done twice, as long as nobody else takes jobs there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cgk_tasks.bridges.bullmq import LISTS, SETS, BullMQJob, BullMQQueue, NotMovable
from cgk_tasks.client import JobClient, SendItem
from cgk_tasks.errors import CgkTasksError, ConfigurationError, QueueFullError, QuotaExceededError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import get_event, parse_event
from cgk_tasks.runs.models import RunHandle
from cgk_tasks.runs.text import where_of
from cgk_tasks.tenancy import registry

MapJob = Callable[[BullMQJob], TenantEvent | SendItem | None]
"""What a job becomes; None leaves it in BullMQ."""

PAGE: Final = 500
_DEFAULT_PRIORITY: Final = 5
_NOT_REMOVED: Final[Mapping[str, str]] = {
    "active": "A worker of BullMQ took it after it was sent as run {run}: both do it. Was the queue resumed?",
    "gone": "It was gone from BullMQ after it was sent as run {run}. Was the queue resumed?",
    "changed": "Its data was changed in BullMQ while it was sent as run {run}.",
}


@dataclass
class Moved:
    """What was done. passed_over: jobs that nobody wanted to move. left: of the others that stay, the reasons with how
    many there are; examples: an id each.
    """

    sent: int = 0
    sent_before: int = 0
    passed_over: int = 0
    left: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def begin_pass(self) -> None:
        """What stays is counted anew: it is looked at again."""
        self.passed_over, self.left, self.examples = 0, Counter(), {}

    def leave(self, job_id: str, reason: str) -> None:
        self.left[reason] += 1
        self.examples.setdefault(reason, job_id)


def to_event(event: str, *, tenant: str | None = None, tenant_field: str = "tenantId") -> MapJob:
    """A job's data as the payload of an event. tenant: whose all jobs are; None: the field of the data that says it.

    Raises UnknownEventError.
    """
    model = get_event(event)

    def mapped(job: BullMQJob) -> TenantEvent:
        if not isinstance(job.data, dict):
            raise ConfigurationError("Its data is no object.")
        data = dict(job.data)
        whose = data.pop(tenant_field, None) if tenant is None else tenant
        if whose is None:
            raise ConfigurationError(f"Its data has no {tenant_field}.")
        return parse_event(model.event_name, {**data, "tenantId": whose})

    return mapped


def move(
    queue: BullMQQueue,
    mapped: MapJob,
    client: JobClient,
    moved: Moved,
    *,
    name: str | None = None,
    dry_run: bool = False,
) -> Iterator[None]:
    """One pass over all that waits, a page at a time; yields after each, when `moved` says what was done.

    name: only jobs of this name. dry_run: everything is checked, nothing sent or removed. Raises ConfigurationError for
    a queue whose workers still take jobs, redis.RedisError, StoreError, and QueueFullError or QuotaExceededError of a
    tenant: whatever was not sent then is in BullMQ.
    """
    for place in (*LISTS, *SETS):
        skip = 0
        while ids := queue.ids(place, skip, PAGE):
            if not dry_run:
                require_paused(queue)
            removed = _page(queue, queue.read(place, ids), mapped, client, moved, name, dry_run=dry_run)
            skip += len(ids) - removed
            yield


def require_paused(queue: BullMQQueue) -> None:
    """Raises ConfigurationError."""
    if not queue.is_paused():
        raise ConfigurationError(
            f"The queue {queue.name!r} of BullMQ is not paused: one of its workers could take a job while it is sent "
            "here, and it would be done twice.",
            hint="Pause it first, `await queue.pause()`: its producers may go on, its workers finish what they have.",
        )


def _page(
    queue: BullMQQueue,
    found: Sequence[BullMQJob | NotMovable],
    mapped: MapJob,
    client: JobClient,
    moved: Moved,
    name: str | None,
    *,
    dry_run: bool,
) -> int:
    """Returns how many jobs are in the list no longer."""
    items = []
    for one in found:
        if isinstance(one, NotMovable):
            moved.leave(one.id, one.reason)
        elif name is not None and one.name != name:
            moved.passed_over += 1
        elif (item := _checked(one, queue, mapped, moved)) is not None:
            items.append((one, item))
    if dry_run:
        moved.sent += len(items)
        return 0
    sent = _send(items, client, moved)
    removed = 0
    for (job, handle), what in zip(sent, queue.remove([job for job, _ in sent]), strict=True):
        if reason := _NOT_REMOVED.get(what):
            moved.leave(job.id, reason.format(run=handle.id))
        removed += what not in {"active", "changed"}
    return removed


def _checked(job: BullMQJob, queue: BullMQQueue, mapped: MapJob, moved: Moved) -> SendItem | None:
    """What is to be sent for a job; None, and why on record, if it stays."""
    try:
        made = mapped(job)
        if made is None:
            moved.passed_over += 1
            return None
        item = made if isinstance(made, SendItem) else SendItem(made)
        event = item.event if isinstance(item.event, TenantEvent) else parse_event(item.event, _payload(item))
        if not event.durable:
            raise ConfigurationError(f"{event.event_name} leaves no record, so nobody could know that it was sent.")
        registry.require(event.tenant_id)
    except Exception as exc:  # noqa: BLE001 - an application's function may raise anything
        # Of another's error only its kind and place: the text may quote the job's data.
        failed = f"The function failed: {type(exc).__name__}, at {where_of(exc)[-1]}"
        moved.leave(job.id, str(exc) if isinstance(exc, CgkTasksError) else failed)
        return None
    options = item.options
    chosen: dict[str, Any] = {"idempotency_key": _key(queue, job)}
    if job.run_at is not None and options.run_at is None and options.delay is None:
        chosen["run_at"] = job.run_at
    if job.attempts is not None and options.max_attempts is None:
        chosen["max_attempts"] = max(1, job.attempts - job.attempts_made)
    if job.priority and options.priority is None:
        chosen["priority"] = max(0, _DEFAULT_PRIORITY - job.priority)
    return SendItem(event, None, replace(options, **chosen))


def _payload(item: SendItem) -> Mapping[str, Any] | TenantEvent:
    return {} if item.payload is None else item.payload


def _key(queue: BullMQQueue, job: BullMQJob) -> str:
    """Of the job itself: an id that is used again, after the queue was emptied, is of another time."""
    return f"bullmq:{queue.prefix}:{queue.name}:{job.id}:{int(job.created_at.timestamp() * 1000)}"


def _send(
    items: list[tuple[BullMQJob, SendItem]], client: JobClient, moved: Moved
) -> list[tuple[BullMQJob, RunHandle]]:
    """Send what can be sent. What cannot stays, with the reason on record."""
    while items:
        try:
            handles = client.send_batch([item for _, item in items])
            break
        except (QueueFullError, QuotaExceededError):
            raise
        except CgkTasksError as exc:
            if exc.item is None:
                raise
            job, _ = items.pop(exc.item)
            moved.leave(job.id, exc.text)
    else:
        return []
    sent = []
    for (job, _), handle in zip(items, handles, strict=True):
        if handle.outcome == "skipped":
            moved.leave(job.id, "A RateLimit or Singleton of the event's job did not accept it.")
            continue
        moved.sent_before += handle.deduplicated
        moved.sent += not handle.deduplicated
        sent.append((job, handle))
    return sent
