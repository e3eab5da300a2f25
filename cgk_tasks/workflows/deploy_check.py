"""What the code at hand would break of the runs that are open in a database. It only reads."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Literal

from cgk_tasks.errors import CgkTasksError, PayloadInvalidError
from cgk_tasks.events.registry import find_event, parse_events_json
from cgk_tasks.jobs.registry import find_job
from cgk_tasks.runs import steps
from cgk_tasks.runs.sealing import opened
from cgk_tasks.runs.steps import INTERNAL, Fence
from cgk_tasks.sql.postgres import AnyConnection, Row, execute, fetch, statements
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.workflows.define import Workflow
from cgk_tasks.workflows.replay_check import OpenRun, problem_of

SQL = statements("deploy")

_BATCH: Final = 1_000
_EXAMPLES: Final = 3

Breaks = Literal["workflow", "version", "step", "payload", "replay"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that breaks open runs. where: the workflow or the event. runs: how many; examples: ids of some."""

    breaks: Breaks
    where: str
    problem: str
    runs: int
    examples: tuple[str, ...]


class _Findings:
    """Counts runs by what is wrong with them."""

    def __init__(self) -> None:
        self._runs: Counter[tuple[Breaks, str, str]] = Counter()
        self._examples: dict[tuple[Breaks, str, str], list[str]] = defaultdict(list)

    def add(self, breaks: Breaks, where: str, problem: str, runs: int, examples: list[str]) -> None:
        key = breaks, where, problem
        self._runs[key] += runs
        self._examples[key] = [*self._examples[key], *examples][:_EXAMPLES]

    def all(self) -> list[Finding]:
        return [Finding(*key, runs, tuple(self._examples[key])) for key, runs in sorted(self._runs.items())]


def findings(
    connection: AnyConnection, *, limit: int, replays: int = 0, around: AbstractContextManager[object] | None = None
) -> list[Finding]:
    """What breaks, of the steps of all open runs of workflows, and of the payloads of `limit` open runs of each event.

    replays: so many runs of each workflow are replayed on what they have done, the oldest. around: what surrounds
    the replays. In a transaction, which is made one that only reads.
    """
    execute(connection, SQL["read_only"])
    found = _Findings()
    if fetch(connection, SQL["has_steps"])[0]["yes"]:
        values = {"internal": sorted(INTERNAL), "examples": _EXAMPLES}
        for row in fetch(connection, SQL["versions_of_open_runs"], values):
            _look_at_version(found, opened(row))
        for row in fetch(connection, SQL["steps_of_open_runs"], values):
            _look_at_step(found, opened(row))
        if replays:
            waiting = _runs_to_replay(connection, replays)
            with around or nullcontext():
                _replay(found, waiting)
    for row in fetch(connection, SQL["events_of_open_runs"]):
        if find_event(row["event"]) is not None:
            _look_at_payloads(found, connection, row["event"], limit)
    return found.all()


def _look_at_version(found: _Findings, row: dict[str, Any]) -> None:
    """row: how many runs there are of one version of a workflow."""
    job = find_job(row["job"])
    if job is None or not isinstance(job.handler, Workflow):
        found.add("workflow", row["job"], "the code has no workflow of this id", row["runs"], row["examples"])
    elif job.handler.version_for(_number(row)) is None:
        problem = f"the code has no version {_number(row)}, and none that accepts it"
        found.add("version", row["job"], problem, row["runs"], row["examples"])


def _look_at_step(found: _Findings, row: dict[str, Any]) -> None:
    """row: how many of them have done this step, or wait for it."""
    job = find_job(row["job"])
    version = job.handler.version_for(_number(row)) if job and isinstance(job.handler, Workflow) else None
    if version is not None and not version.names.has(row["name"]):
        problem = f"version {version.number} has no step {row['name']!r} any more"
        found.add("step", row["job"], problem, row["runs"], row["examples"])


def _number(row: dict[str, Any]) -> int:
    return int(json.loads(row["step_result"] or "{}").get("version", 1))


def _runs_to_replay(connection: AnyConnection, most: int) -> list[tuple[Workflow, OpenRun]]:
    """With all that a replay needs: it asks nobody. Those whose payload is not accepted any more are said elsewhere."""
    found = []
    for name in fetch(connection, SQL["workflows_of_open_runs"]):
        job = find_job(name["job"])
        if job is None or not isinstance(job.handler, Workflow):
            continue
        for row in map(opened, fetch(connection, SQL["runs_to_replay"], {"job": job.id, "limit": most})):
            tenant = Tenant(row["tenant"], row["status"], row["isolation"], row["schema_name"], row["role_name"])
            memos = steps.load(connection, Fence(row["id"], 0, "", row["tenant_id"], row["key_id"]))
            try:
                event = parse_events_json(row["event"], row["payload"])[0]
            except CgkTasksError:
                continue
            found.append((job.handler, OpenRun(row["id"], tenant, event, row["payload"], memos)))
    return found


def _replay(found: _Findings, runs: Iterable[tuple[Workflow, OpenRun]]) -> None:
    for workflow, run in runs:
        problem = problem_of(workflow, run)
        if problem is not None:
            found.add("replay", workflow.id, problem, 1, [run.id])


def _look_at_payloads(found: _Findings, connection: AnyConnection, event: str, limit: int) -> None:
    for row in _payloads(connection, event, limit):
        try:
            parse_events_json(event, opened(row)["payload"])
        except PayloadInvalidError as exc:
            found.add("payload", event, exc.problems[0], 1, [row["id"]])
        except CgkTasksError as exc:
            found.add("payload", event, exc.text, 1, [row["id"]])


def _payloads(connection: AnyConnection, event: str, limit: int) -> Iterator[Row]:
    after: str | None = None
    while limit > 0:
        values = {"event": event, "after": after, "limit": min(limit, _BATCH)}
        rows = fetch(connection, SQL["payloads_of_open_runs"], values)
        yield from rows
        if len(rows) < _BATCH:
            return
        after, limit = rows[-1]["id"], limit - len(rows)
