"""What Inngest's records of an event's functions say, as one run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cgk_tasks.runs.models import RunStatus, State

_STATES: Mapping[str, State] = {
    "Scheduled": "pending",
    "Running": "running",
    "Completed": "completed",
    "Failed": "failed",
    "Overflowed": "failed",
    "Cancelled": "cancelled",
    "Skipped": "cancelled",
}
_CODE = re.compile(r"[A-Z][A-Z0-9_]{2,}")


def found_status(sent: RunStatus, found: Sequence[Mapping[str, Any]]) -> RunStatus:
    """sent: the run before any function began. found: Inngest's records; one function is the run, several are its
    parts.

    The result of several is a dict by the functions' ids; the run fails if one of them has.
    """
    parts = [_part(sent, one) for one in found]
    if not parts:
        return sent
    if len(parts) == 1:
        return parts[0]
    states = {part.state for part in parts}
    started = min((part.started_at for part in parts if part.started_at), default=None)
    whole = replace(sent, attempt=max(part.attempt for part in parts), started_at=started)
    if not all(part.is_closed for part in parts):
        return replace(whole, state="running" if states != {"pending"} else "pending")
    failed = next((part for part in parts if part.state == "failed"), None)
    state: State = "failed" if failed else "cancelled" if "cancelled" in states else "completed"
    return replace(
        whole, state=state, result={part.job: part.result for part in parts},
        error_code=failed.error_code if failed else None,
        errors=[error for part in parts for error in part.errors],
        closed_at=max((part.closed_at for part in parts if part.closed_at), default=None),
    )  # fmt: skip


def _part(sent: RunStatus, record: Mapping[str, Any]) -> RunStatus:
    state = _STATES.get(str(record.get("status")), "running")
    if state == "pending" and sent.state == "scheduled":
        state = "scheduled"
    output = record.get("output")
    part = replace(
        sent, state=state, job=str(record.get("function_id") or "") or None,
        started_at=_time(record.get("run_started_at")),
        closed_at=_time(record.get("ended_at")), attempt=1 if state in {"running", "completed", "failed"} else 0,
    )  # fmt: skip
    if state == "completed":
        return replace(part, result=output)
    if state == "failed":
        error = _error(output, record.get("ended_at"))
        return replace(part, errors=[error], error_code=str(error["code"]))
    return part


def _error(output: Any, at: Any) -> dict[str, Any]:
    """The last attempt's error: Inngest tells no others."""
    if isinstance(output, dict) and isinstance(output.get("error"), dict):  # some versions have it in an envelope
        output = output["error"]
    found = output if isinstance(output, dict) else {"message": "" if output is None else str(output)}
    name, code = str(found.get("name") or "Error"), found.get("code")
    known = next((str(one) for one in (code, name) if one and _CODE.fullmatch(str(one))), "UNKNOWN_ERROR")
    return {
        "attempt": 1, "type": name, "code": known, "message": str(found.get("message") or ""),
        "traceback": str(found.get("stack") or ""), "at": at,
    }  # fmt: skip


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value).astimezone(UTC) if value else None
    except (TypeError, ValueError):
        return None
    return found if found and found.year > 1970 else None
