"""The events that the workflows of this process wait for."""

from __future__ import annotations

import psycopg

from cgk_tasks.jobs.registry import all_jobs
from cgk_tasks.runs import event_waits
from cgk_tasks.sql import postgres
from cgk_tasks.workflows.define import Workflow


def awaited_fields() -> dict[str, set[str]]:
    """The fields by which workflows know the events that they wait for."""
    found: dict[str, set[str]] = {}
    for job in all_jobs():
        if isinstance(job.handler, Workflow):
            for version in job.handler.versions.values():
                for event, field in version.waits_for:
                    found.setdefault(event, set()).add(field)
    return found


def note_awaited_events() -> None:
    """Say on record which events workflows of this process wait for: their senders keep them from then on."""
    fields = awaited_fields()
    if not fields:
        return
    try:
        with postgres.autocommit() as connection:
            event_waits.note_awaited(connection, fields)
    except psycopg.Error as exc:
        if not postgres.is_not_migrated(exc):
            raise
