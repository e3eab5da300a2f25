"""Runs of jobs with a Batch: what was sent after the first event becomes a part of the run when that is executed."""

from __future__ import annotations

from cgk_tasks.runs import merging
from cgk_tasks.runs.sealing import seal
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql import postgres


def whole(run: Claimed, worker_id: str, patience: float) -> Claimed | None:
    """The run with all of its events in its payload. None if the run is not this attempt's any more.

    Nothing is added to a run that is due, so it is done once. Raises psycopg.Error.
    """
    payload = run.payload
    if not payload.startswith("["):
        return run  # it was sent when nobody made batches
    return postgres.retry_while_unavailable(lambda: _whole(run, payload, worker_id), patience)


def _whole(run: Claimed, payload: str, worker_id: str) -> Claimed | None:
    with postgres.autocommit() as connection:
        added = merging.added_events(connection, run.id, run.tenant_id)
        if not added:
            return run
        text = f"{payload[:-1]},{','.join(added)}]"
        with connection.transaction():
            if not merging.take_in(connection, worker_id, run, text):
                return None
    return run._replace(sealed_payload=seal(run.tenant_id, "payload", text, run.key_id))
