"""Flower's list of tasks: named by event, with the tenant and the searchable fields of the payload in the column
args.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import psycopg
import sqlalchemy as sa

from cgk_tasks.dashboard.data.queries import SQL
from cgk_tasks.dashboard.display import fields
from cgk_tasks.events.redaction import summary
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.runs.sealing import opened_to_show
from cgk_tasks.sql.postgres import autocommit, fetch

COLUMNS = "name,uuid,state,args,received,runtime,worker"


def format_task(task: Any) -> Any:
    """What Flower shows of a task. Its memory has the tenant only; the fields come from the record of runs, for
    display.

    Messages of other producers may carry their payload in the open: that is not shown.
    """
    if task.kwargs:
        task.kwargs = "{}"
    task.args = _arguments(str(task.uuid)) or (task.args if str(task.args).startswith("(tenant=") else "")
    return task


@lru_cache(maxsize=20_000)
def _arguments(task_id: str) -> str:
    """A run's tenant and searchable fields; empty for a packet of several runs and for telemetry, which have no run."""
    try:
        with autocommit() as connection:
            rows = fetch(connection, SQL["payloads"], {"id": run_id_of(task_id)})
    except (psycopg.Error, sa.exc.SQLAlchemyError):
        return ""
    if not rows:
        return ""
    run = opened_to_show(rows[0])
    return fields({"tenant": run["tenant_id"], **summary(run["event"], decode(run["payload"]))})
