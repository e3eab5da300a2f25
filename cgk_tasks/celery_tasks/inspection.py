"""Celery's `inspect` on runs: workers say which messages they have, and the record what those are.

Replies travel through the broker, so they name runs and nothing else; what is shown of a run is read here. Inside a
tenant's context that is the tenant's own runs with their arguments, elsewhere all of them without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from celery.app.control import Inspect

from cgk_tasks.celery_tasks import revocations
from cgk_tasks.celery_tasks.priorities import celery_priority
from cgk_tasks.events.registry import find_event
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.runs.sealing import opened
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.visibility import may_see, sees_all

SQL, WORKERS = statements("runs"), statements("dispatch")

_NAMES: Final = {
    **{name: name for name in ("active", "reserved", "scheduled", "revoked", "query_task")},
    "dump_active": "active", "dump_reserved": "reserved", "dump_schedule": "scheduled", "dump_revoked": "revoked",
}  # fmt: skip
"""The commands that are about runs, by each of their names."""

_MOST: Final = 10_000
"""So many runs are shown at most."""
_SCHEDULED_PRIORITY: Final = 6
"""Of all entries of a timer in Celery."""


class RunInspect(Inspect):
    """`app.control.inspect()`; what is not about runs is Celery's."""

    def _request(self, command: str, **kwargs: Any) -> Any:
        name = _NAMES.get(command)
        if name is None:
            return super()._request(command, **kwargs)
        own: Any = self
        replies: list[dict[str, Any]] = own.app.control.broadcast(
            command, arguments=kwargs, destination=own.destination, connection=own.connection, limit=own.limit,
            timeout=own.timeout, reply=True, pattern=own.pattern, matcher=own.matcher,
        ) or []  # fmt: skip
        nodes = Nodes.of(node for reply in replies for node in reply)
        shown = [
            {node: value if _is_error(value) else _shown(name, nodes, node, value, kwargs)}
            for reply in replies
            for node, value in reply.items()
        ]
        if own.callback is not None:
            for one in shown:
                own.callback(one)
        return own._prepare(shown)  # noqa: SLF001 - Celery's own way to give an answer


@dataclass(frozen=True, slots=True)
class Nodes:
    """The workers that have answered. A run that no worker has yet is shown by one of those that may take it."""

    ids: Mapping[str, str]
    first_of: Mapping[str, str]
    """By queue."""

    @classmethod
    def of(cls, names: Iterable[str]) -> Nodes:
        """Those with these names."""
        answered = set(names)
        with autocommit() as connection:
            rows = [row for row in fetch(connection, WORKERS["list_workers"]) if row["name"] in answered]
        first_of: dict[str, str] = {}
        for row in rows:
            for queue in row["queues"]:
                first_of.setdefault(queue, row["name"])
        return cls({row["id"]: row["name"] for row in rows}, first_of)

    def name_for(self, run: Row) -> str | None:
        """The worker that has the run, or else may take it."""
        return self.ids.get(run["worker_id"]) if run["state"] == "running" else self.first_of.get(run["queue"])


def _is_error(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"error"}


def _shown(name: str, nodes: Nodes, node: str, value: Any, arguments: Mapping[str, Any]) -> Any:
    if name == "revoked":
        return _revoked()
    if name == "scheduled":
        queues = [queue for queue, first in nodes.first_of.items() if first == node]
        later = [
            {"eta": run["run_at"].isoformat(), "priority": _SCHEDULED_PRIORITY, "request": _info(run, node)}
            for run in _fetch("inspected_later", queues=queues, limit=_MOST)
        ]
        return later + [
            {**entry, "request": _without_notes(entry["request"])} for entry in value if _is_seen(entry["request"])
        ]
    if name == "query_task":
        return _queried(nodes, node, value, arguments.get("ids") or ())
    state = "running" if name == "active" else "pending"
    ids = [run_id for entry in value for run_id in entry.get("run_ids") or ()]
    runs = [_info(run, node) for run in _runs(ids) if run["state"] == state]
    return runs + [_without_notes(entry) for entry in value if _is_seen(entry)]


def _queried(nodes: Nodes, node: str, value: Mapping[str, Any], ids: Iterable[str]) -> dict[str, Any]:
    found = {task_id: [state, _without_notes(info)] for task_id, (state, info) in value.items() if _is_seen(info)}
    for run in _runs([run_id_of(one) for one in ids]):
        if nodes.name_for(run) == node:
            state = {"running": "active", "pending": "reserved"}.get(run["state"], "scheduled")
            info = _info(run, node)
            found[info["id"]] = [state, info]
    return found


def _is_seen(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is of a message without a record, and may be shown here."""
    return entry.get("run_ids") is None and may_see(str(entry.get("tenant")))


def _without_notes(entry: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in entry.items() if name not in {"run_ids", "tenant"}}
    return shown | {"args": f"(tenant={entry.get('tenant')})", "kwargs": "{}"} if sees_all() else shown


def _revoked() -> list[str]:
    """The ids of what was revoked lately, as each worker of Celery has them, and of what is not sent yet."""
    return [_task_id(run) for run in _fetch("revoked_lately", limit=_MOST)] + revocations.noted_ids()


def _runs(ids: list[str]) -> list[Row]:
    return _fetch("inspected", ids=ids) if ids else []


def _fetch(statement: str, **values: Any) -> list[Row]:
    here = find_current_tenant()
    tenant_id = None if here is None or sees_all() else here.id
    with autocommit() as connection:
        rows = fetch(connection, SQL[statement], {**values, "tenant_id": tenant_id})
    return [opened({name: row[name] for name in row if tenant_id or name != "sealed_payload"}) for row in rows]


def _task_id(run: Row) -> str:
    """The id that the task was sent with."""
    kept = typed_json.read(run["canvas"]) if run["canvas"] else {}
    return str(kept.get("task_id") or run["id"])


def _info(run: Row, node: str) -> dict[str, Any]:
    """What Celery says of a request."""
    is_running = run["state"] == "running"
    args, kwargs = (f"(tenant={run['tenant_id']})", "{}") if sees_all() else _arguments(run)
    return {
        "id": _task_id(run),
        "name": run["event"],
        "args": args,
        "kwargs": kwargs,
        "type": run["event"],
        "hostname": node,
        "time_start": run["started_at"].timestamp() if is_running else None,
        "acknowledged": is_running,
        "delivery_info": {
            "exchange": "", "routing_key": run["queue"], "priority": celery_priority(run["priority"]),
            "redelivered": run["deaths"] > 0,
        },
        "worker_pid": run["worker_pid"] if is_running else None,
    }  # fmt: skip


def _arguments(run: Row) -> tuple[Any, Any]:
    payload = typed_json.read(run["payload"])
    return ([], payload) if find_event(run["event"]) is not None else (payload["args"], payload["kwargs"])
