"""Writing run logs: with a packet's outcomes, and once a second while its jobs go on.

So an attempt whose process dies loses the last second of its lines, not all of them. A thread does that, which begins
with the first line that a process keeps: a run that logs nothing costs nothing, and the lines of one that ends within
the second are written once, with its outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import psycopg
import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.runs.sealing import key_for, seal
from cgk_tasks.runs.soon import Soon
from cgk_tasks.sql.postgres import Connection, autocommit, execute, statements

SQL = statements("logs")
log = structlog.get_logger("cgk_tasks.run_logs")

EVERY_SECONDS: Final = 1.0


class RunLog(Protocol):
    """The lines of one attempt: those that are not written yet, and how many were left out."""

    run_id: str
    tenant_id: str
    attempt: int
    lines: list[str] | None
    left_out: int


def _write_due(due: Sequence[RunLog]) -> list[RunLog]:
    with autocommit() as connection:
        insert(connection, due)
    return [run_log for run_log in due if run_log.lines]  # logged meanwhile


_writer: Final[Soon[RunLog]] = Soon("cgk-run-logs", EVERY_SECONDS, _write_due)


def soon(run_log: RunLog) -> None:
    """Have its lines written within a second or so, if its run does not end before."""
    _writer.add(run_log)


def write(logs: Sequence[RunLog], again: Sequence[RunLog] = ()) -> None:
    """Write the rest of these attempts' lines. `again`: those of runs that had or will have other attempts.

    Never raises for PostgreSQL being away: a run does not fail for its log.
    """
    if not logs:
        return
    try:
        with _writer.lock, autocommit() as connection:  # after what is just being written
            insert(connection, logs, is_end=True)
            if again:
                room = {"ids": [one.run_id for one in again], "room": get_settings().run_log_bytes}
                execute(connection, SQL["make_room"], room)
    except psycopg.Error as exc:
        log.warning("run_logs_not_kept", runs=[one.run_id for one in logs], reason=str(exc).strip())
        for one in logs:
            if one.lines:
                one.lines.clear()  # or the thread would try for ever


def insert(connection: Connection, logs: Sequence[RunLog], *, is_end: bool = False) -> None:
    """Write the lines that these attempts have so far; at the end, also how many were left out. Needs the writer's
    lock.
    """
    found = [(one, list(one.lines or ())) for one in logs]
    rows = [(one, lines) for one, lines in found if lines or (is_end and one.left_out)]
    if not rows:
        return
    values: dict[str, list[Any]] = {
        "run_id": [one.run_id for one, _ in rows],
        "tenant_id": [one.tenant_id for one, _ in rows],
        "attempt": [one.attempt for one, _ in rows],
        "size": [sum(map(len, lines)) for _, lines in rows],
        "left_out": [one.left_out if is_end else 0 for one, _ in rows],
        "line_count": [len(lines) for _, lines in rows],
        "key_id": [key_for(one.tenant_id) for one, _ in rows],
    }
    values["sealed_lines"] = [
        seal(one.tenant_id, "log_lines", f"[{','.join(lines)}]", key_id)
        for (one, lines), key_id in zip(rows, values["key_id"], strict=True)
    ]
    execute(connection, SQL["keep_logs"], values)
    for one, lines in rows:
        if one.lines is not None:
            del one.lines[: len(lines)]
