"""Runs that were revoked before they are sent: on record as cancelled, with what follows from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery

from cgk_tasks.celery_tasks import canvas, revocations
from cgk_tasks.flow.accept import accept, current_unit, unit_of_work
from cgk_tasks.runs import store
from cgk_tasks.runs.models import NewRun
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import AnyConnection


def without_revoked(app: Celery[Any], runs: Sequence[NewRun]) -> list[NewRun]:
    """The runs that are to be sent. The others are recorded, in the open unit of work if there is one."""
    revoked = revocations.revoked_among(runs)
    if not revoked:
        return list(runs)
    unit = current_unit()
    if unit is not None:
        _record(app, revoked, unit.connection)
    else:
        with postgres.transaction() as connection, unit_of_work(connection) as own:
            _record(app, revoked, connection)
        own.publish()
    return [run for run in runs if run not in revoked]


def _record(app: Celery[Any], runs: Sequence[NewRun], connection: AnyConnection) -> None:
    accept([run._replace(state="scheduled", is_ruled=False) for run in runs])
    for run in runs:
        canvas.follow_closed(store.cancel(run.id, connection), app)
