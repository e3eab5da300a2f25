"""Workflows that end and begin again with another payload, all or nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cgk_tasks.flow.accept import dispatch
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.runs import ends, insertion, mails
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql import postgres
from cgk_tasks.workflows.suspension import cannot_continue

if TYPE_CHECKING:
    from cgk_tasks.runs.models import NewRun
    from cgk_tasks.runs.store import Claimed


def continue_as_new(run: Claimed, job_id: str, payload: str, worker_id: str, patience: float) -> str | None:
    """Complete the run, and make a new one with this payload, which is JSON text; it gets the mail that was not taken,
    and what follows in a canvas. Returns its id; None if the run is not this attempt's. Raises PermanentError for a
    child run, whose end its parent waits for.
    """
    if run.parent_id is not None:
        raise cannot_continue()
    options = SendOptions(max_attempts=run.max_attempts, queue=run.queue, priority=run.priority)
    again = new_run(run.event, run.tenant_id, payload, options, Origin(job=run.job, canvas=run.canvas), run.tenant)
    if not postgres.retry_while_unavailable(lambda: _write(run, job_id, again, worker_id), patience):
        return None
    if again.state == "pending":
        dispatch([again])
    return again.id


def _write(run: Claimed, job_id: str, again: NewRun, worker_id: str) -> bool:
    result = json.dumps({"continuedAs": again.id})
    closing = Closing(run.id, run.tenant_id, run.attempt, "completed", job_id, result, key_id=run.key_id)
    is_closed = False
    with postgres.transaction() as connection:
        if ends.finish(connection, worker_id, [closing], flush=True):
            insertion.insert(connection, [again], {})
            mails.hand_down(connection, run.id, [again.id])
            is_closed = True
    return is_closed
