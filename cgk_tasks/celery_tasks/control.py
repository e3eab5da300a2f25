"""Celery's `revoke` on runs: cancelled on record, not in the memory of the workers that happen to listen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from celery import Celery
from celery.app.control import Control

from cgk_tasks.celery_tasks import canvas, purging, revocations
from cgk_tasks.celery_tasks.inspection import RunInspect
from cgk_tasks.flow.accept import UnitOfWork, unit_of_work
from cgk_tasks.runs import store
from cgk_tasks.runs.models import OPEN_STATES, run_id_of
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.visibility import may_see


def cancel_run(run_id: str, app: Celery[Any], *, interrupt: bool = True) -> None:
    """Cancel a run, and send what follows its end in Celery's canvas. interrupt: whether an attempt that is on ends."""

    def cancel() -> UnitOfWork:
        with postgres.transaction() as connection, unit_of_work(connection) as unit:
            canvas.follow_closed(store.cancel(run_id, connection, interrupt=interrupt), app)
            note(connection, "cancel run", run_id)
        return unit

    postgres.retry_conflicts(cancel).publish()


class RunControl(Control):
    """Remote control of workers, as Celery has it, with `revoke` on the record of runs."""

    @cached_property
    def inspect(self) -> Any:
        """As Celery's, with what the record knows of runs."""
        return self.app.subclass_with_self(RunInspect, reverse="control.inspect")

    def purge(self, connection: Any = None) -> int:
        """Cancel what waits in the app's queues, and remove its messages. Returns how many runs that were."""
        return purging.purge(self.app, set(self.app.amqp.queues.consume_from), connection)

    discard_all = purge

    def revoke(
        self, task_id: str | Sequence[str], destination: Any = None, terminate: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        """Cancel runs by task id: those that wait at once, those that run within a second if `terminate` says so; else
        they come to their end, and are not tried again. Closed ones stay as they are.

        An id that is not sent yet is revoked when it comes. Workers are told of it as well: it may be that of a task
        with `durable=False`, and concerns no other messages there. Another tenant's runs are left alone.
        """
        others = []
        for one in [task_id] if isinstance(task_id, str) else task_id:
            row = store.record_of(run_id_of(one))
            if row is None:
                revocations.note_id(run_id_of(one))
                others.append(one)
                row = store.record_of(run_id_of(one))  # who has sent it meanwhile did not find the note
            if row is not None and may_see(row["tenant_id"]) and row["state"] in OPEN_STATES:
                cancel_run(row["id"], self.app, interrupt=terminate)
        if not others and not kwargs.get("reply"):
            return None
        return super().revoke(others, destination, terminate, *args, **kwargs)

    def revoke_by_stamped_headers(
        self, headers: Mapping[str, Any], destination: Any = None, terminate: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        """Revoke what has one of these stamps, and what will be sent with one. Looks at every open run of a canvas."""
        revocations.note_stamps(headers)
        for run_id in revocations.waiting_with(headers):
            cancel_run(run_id, self.app, interrupt=terminate)
        return super().revoke_by_stamped_headers(headers, destination, terminate, *args, **kwargs)
