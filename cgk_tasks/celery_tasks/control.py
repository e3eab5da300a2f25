"""Celery's `revoke` on runs: cancelled on record, not in the memory of the workers that happen to listen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.app.control import Control

from cgk_tasks.celery_tasks import canvas
from cgk_tasks.flow.accept import publish, unit_of_work
from cgk_tasks.runs import store
from cgk_tasks.runs.models import OPEN_STATES, run_id_of
from cgk_tasks.runs.visibility import may_see
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.audit import note


def cancel_run(run_id: str, app: Celery[Any]) -> None:
    """Cancel a run, and send what follows its end in Celery's canvas."""
    with postgres.transaction() as connection, unit_of_work(connection) as unit:
        canvas.follow_closed(store.cancel(run_id, connection), app)
        note(connection, "cancel run", run_id)
    publish(unit.accepted)


class RunControl(Control):
    """Remote control of workers, as Celery has it; only `revoke` is another."""

    def revoke(self, task_id: str | Sequence[str], *args: Any, **kwargs: Any) -> Any:
        """Cancel runs by task id: those that wait at once, those that run within a second, closed ones not at all.

        Ids that are no runs (tasks with `durable=False`) are revoked by Celery. Another tenant's runs are left alone.
        """
        others = []
        for one in [task_id] if isinstance(task_id, str) else task_id:
            row = store.record_of(run_id_of(one))
            if row is None:
                others.append(one)
            elif may_see(row["tenant_id"]) and row["state"] in OPEN_STATES:
                cancel_run(row["id"], self.app)
        return super().revoke(others, *args, **kwargs) if others else None
