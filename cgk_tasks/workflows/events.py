"""Events that a workflow waits for: those that its definition names, each known by the value of a field."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import get_event, parse_event_json
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job, add_job, jobs_for
from cgk_tasks.runs.event_waits import EventKey
from cgk_tasks.runs.steps import Memo

AwaitedEvent = tuple[str, str]
"""The name of an event, and the field by which a workflow knows its own, as JSON has it."""


def checked_events(workflow: str, waits_for: Iterable[tuple[str | type[TenantEvent], str]]) -> tuple[AwaitedEvent, ...]:
    """What `define_workflow(waits_for=)` says. Raises ConfigurationError, UnknownEventError."""
    found = []
    for event, field in waits_for:
        model = get_event(name_of(event))
        fields = {info.alias or name for name, info in model.model_fields.items()}
        if field not in fields:
            raise ConfigurationError(
                f"Workflow {workflow!r} waits for {model.event_name} by its field {field!r}, which it has not.",
                hint=f"It has {', '.join(sorted(fields))}.",
            )
        if not model.durable:
            raise ConfigurationError(
                f"Workflow {workflow!r} waits for {model.event_name}, which leaves no record (durable=False).",
                hint="Wait for a durable event.",
            )
        found.append((model.event_name, field))
    return tuple(found)


def name_of(event: str | type[TenantEvent]) -> str:
    return event if isinstance(event, str) else event.event_name


def add_jobs_for(events: Collection[AwaitedEvent]) -> None:
    """An event that workflows wait for needs no other job: its run then does nothing, and completes."""
    for event, _ in events:
        if not jobs_for(event):
            add_job(Job(f"awaited.{event}", event, _taken_elsewhere, is_builtin=True))


def is_awaited_alone(jobs: Collection[Job]) -> bool:
    """Whether an event has no job here but that. Another worker may have one, which is the event's then."""
    return all(job.handler is _taken_elsewhere for job in jobs)


def _taken_elsewhere(ctx: JobContext[Any]) -> None:
    """The job of an event that only workflows wait for: its sender has brought it to them."""


def key_of(known: Collection[AwaitedEvent], event: str, field: str | None, match: object) -> EventKey:
    """What a wait for an event is about. Raises ConfigurationError for an event that the definition does not name."""
    fields = sorted(one for name, one in known if name == event)
    if field is None and len(fields) == 1:
        field = fields[0]
    if field not in fields or field is None:
        named = f" by {field!r}" if field is not None else ""
        hint = (
            f"Say by which field: field={' or field='.join(map(repr, fields))}."
            if fields and field is None
            else f"Its senders must know: define_workflow(..., waits_for=[({event!r}, {field or 'FIELD'!r})])."
        )
        raise ConfigurationError(f"A workflow waits for {event}{named}.", hint=hint)
    return EventKey.of(event, field, match)


def event_of(memo: Memo) -> TenantEvent | None:
    """The event that has come; None if it did not come in time. Raises PayloadInvalidError."""
    return None if memo.state == "timed_out" else parse_event_json(memo.name, memo.result or "{}")
