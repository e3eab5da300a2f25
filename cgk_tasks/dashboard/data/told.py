"""What a run tells of itself: its progress, and its metadata."""

from __future__ import annotations

from dataclasses import replace

from cgk_tasks.events.redaction import Redaction
from cgk_tasks.runs.progress import Told, told
from cgk_tasks.sql.postgres import autocommit


def told_by(run_id: str, hide: Redaction | None) -> Told:
    """It, without personal data where `hide` takes it out."""
    with autocommit() as connection:
        found = told(connection, run_id)
    if hide is None:
        return found
    shown = found.progress and replace(found.progress, message=hide.text(found.progress.message))
    return Told(shown, hide.data(found.metadata))
