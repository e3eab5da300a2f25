"""A broker that is new or empty gets a message of every run that waits for a worker.

The dispatcher finds messages that are missing by itself, in Redis within seconds. In RabbitMQ it cannot see how old the
oldest message of a queue is, so it waits minutes there; and after a move to another broker nobody has to wait at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from cgk_tasks.broker.publisher import get_patient_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.errors import BrokerError
from cgk_tasks.flow.accept import dispatch
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements, transaction
from cgk_tasks.tenancy.audit import note

SQL, TRANSITIONS = statements("dispatch"), statements("transitions")


def waiting_by_queue() -> dict[str, int]:
    """How many runs of each queue wait for a worker to claim them."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["pending_runs"])
    return {row["queue"]: row["runs"] for row in rows}


def rebuild_broker(progress: Callable[[int], None] = lambda _runs: None) -> dict[str, int]:
    """Dispatch every run that waits for a worker to CGK_BROKER_URL once more. Returns their number by queue.

    Safe at any time and to repeat: a run whose message is there already gets a second one, and is claimed once. Runs of
    a crowded queue go back to their lanes, from where the leading worker dispatches them. progress: called with the
    number of runs so far, after each batch.

    Raises BrokerError if the broker does not take them; those that it took stay there, and the dispatcher goes on with
    the others.
    """
    get_patient_publisher().ping()
    with transaction() as connection:
        fetch(connection, statements("admission")["by_index"])
        # Before anything is dispatched: what others dispatch from now on is left alone.
        lists = fetch(connection, SQL["unclaimed_lists"], {"patience": 0})
    found: Counter[str] = Counter()
    for row in sorted(lists, key=lambda one: -int(one["priority"])):
        values = {"queue": row["queue"], "priority": row["priority"], "before": row["now"], "patience": 0}
        _dispatch_all("dispatch_lost", values, found, progress)
    _dispatch_all("dispatch_unpublished", {}, found, progress)
    with autocommit() as connection:
        note(connection, "rebuild broker", "", affected=found.total())
    return dict(sorted(found.items()))


def _dispatch_all(statement: str, values: dict[str, Any], found: Counter[str], progress: Callable[[int], None]) -> None:
    """In batches, each marked as dispatched before it is published, as the dispatcher does it."""
    limit = get_settings().dispatch_batch
    publisher = get_patient_publisher()
    while True:
        with autocommit() as connection:
            rows: list[Row] = fetch(connection, TRANSITIONS[statement], {"limit": limit, **values})
        if rows and not dispatch([Dispatch.of(row) for row in rows], publisher):
            raise BrokerError(
                f"The broker took {found.total()} runs and then no more.",
                hint="The dispatcher goes on with the others when the broker is back. Check it with: cgk-tasks doctor",
            )
        found.update(row["queue"] for row in rows)
        progress(found.total())
        if len(rows) < limit:
            return
