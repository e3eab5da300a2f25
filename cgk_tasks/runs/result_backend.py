"""Celery's result backend on the record of runs: `AsyncResult(id).status` and `.get()` read the run."""

from __future__ import annotations

from typing import Any

from celery import states
from celery.backends.base import BaseBackend

from cgk_tasks.runs import store
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import State, run_id_of

CELERY_STATES: dict[State, str] = {
    "scheduled": states.PENDING,
    "pending": states.PENDING,
    "held": states.PENDING,
    "running": states.STARTED,
    "retrying": states.RETRY,
    "completed": states.SUCCESS,
    "failed": states.FAILURE,
    "expired": states.FAILURE,
    "unhandled": states.FAILURE,
    "cancelled": states.REVOKED,
}


class RunResultBackend(BaseBackend):  # type: ignore[misc]
    """Reads runs; stores nothing of its own."""

    persistent = True

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        row = store.find(run_id_of(task_id))
        if row is None:
            return {"status": states.PENDING, "result": None}
        status = CELERY_STATES[row["state"]]
        errors = row["errors"]
        meta = {
            "status": status,
            "result": decode(row["result"]),
            "traceback": errors[-1].get("traceback") if errors else None,
            "task_id": task_id,
            "name": row["event"],
            "date_done": row["closed_at"],
            "children": [],
        }
        if status in states.EXCEPTION_STATES:
            meta["result"] = _exception(row)
        return meta

    def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]:
        if meta["status"] in states.EXCEPTION_STATES:
            meta["result"] = self.exception_to_python(meta["result"])
        return meta

    def _get_result_meta(self, *args: Any, **kwargs: Any) -> Any:
        return super()._get_result_meta(*args, **kwargs)

    def get_task_meta(self, task_id: str, cache: bool = True) -> Any:
        return super().get_task_meta(task_id, cache)
