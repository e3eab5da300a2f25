"""Runs of jobs with a Batch: what was sent after the first event becomes a part of the run when that is executed."""

from __future__ import annotations

from cgk_tasks.runs import merging, store
from cgk_tasks.runs.sealing import seal
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql import postgres


def whole(run: Claimed, worker_id: str, patience: float) -> Claimed | None:
    """The run with all of its events in its payload. None if the run is not this attempt's any more.

    Nothing is added to a run that is due, so it is done once. Raises psycopg.Error.
    """
    if not run.payload.startswith("["):
        return run  # it was sent when nobody made batches
    known: Claimed | None = run

    def take_in() -> Claimed | None:
        nonlocal known
        # Whose connection broke does not know what became of it: then the record says what the payload is.
        found, known = known or _on_record(run, worker_id), None
        return None if found is None else _whole(found, worker_id)

    return postgres.retry_while_unavailable(take_in, patience)


def _on_record(run: Claimed, worker_id: str) -> Claimed | None:
    with postgres.autocommit() as connection:
        found = store.running(connection, [run.id], worker_id)
    return found[0] if found and found[0].attempt == run.attempt else None


def _whole(run: Claimed, worker_id: str) -> Claimed | None:
    with postgres.autocommit() as connection:
        added = merging.added_events(connection, run.id, run.tenant_id)
        if not added:
            return run
        text = f"{run.payload[:-1]},{','.join(added)}]"
        with connection.transaction():
            if not merging.take_in(connection, worker_id, run, text):
                return None
    return run._replace(sealed_payload=seal(run.tenant_id, "payload", text, run.key_id))
