"""Everything about one run, for `cgk-tasks runs show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from cgk_tasks.cli.output import json_text, print_facts, print_heading, print_table

if TYPE_CHECKING:
    from cgk_tasks.runs.logs import LogLine
    from cgk_tasks.runs.models import RunStatus

_FACTS = (
    "id", "tenant_id", "event", "job", "state", "error_code", "queue", "priority", "created_at", "run_at",
    "expires_at", "started_at", "closed_at", "cancel_requested_at", "worker_id", "parent_id", "replay_of",
    "idempotency_key",
)  # fmt: skip


def run_details(status: RunStatus, children: Sequence[RunStatus], *, show_payload: bool) -> dict[str, Any]:
    """The run as JSON-ready data, with its children; payload, result and errors without personal data unless asked
    for.
    """
    from cgk_tasks.events.redaction import Redaction, redacted

    details = asdict(status)
    if not show_payload:
        hide = Redaction(status.event, status.payload)
        details["payload"] = redacted(status.event, status.payload)
        details["result"], details["errors"] = hide.data(status.result), hide.errors(status.errors)
        details["metadata"] = hide.data(status.metadata)
        if status.progress is not None:
            details["progress"]["message"] = hide.text(status.progress.message)
    details["children"] = [
        {"id": child.id, "job": child.job, "state": child.state, "error_code": child.error_code} for child in children
    ]
    return details


def print_run(details: Mapping[str, Any]) -> None:
    """The details for people."""
    attempts = f"{details['attempt']} of {details['max_attempts']}" if details["max_attempts"] else details["attempt"]
    print_facts({**{name: details[name] for name in _FACTS}, "attempt": attempts, "deaths": details["deaths"] or None})
    if details["progress"]:
        print_heading("progress")
        print_facts(details["progress"])
    if details["metadata"]:
        print_heading("metadata")
        _print_data(details["metadata"])
    if details["errors"]:
        _print_errors(details["errors"], details["errors_left_out"])
    if details["children"]:
        print_heading("children")
        print_table(details["children"], ("id", "job", "state", "error_code"))
    print_heading("payload")
    _print_data(details["payload"])
    if details["state"] == "completed":
        print_heading("result")
        _print_data(details["result"])


def _print_errors(errors: Sequence[Mapping[str, Any]], left_out: int) -> None:
    print_heading("errors")
    print_table(errors, ("attempt", "at", "kind", "code", "type", "message"))
    if left_out:
        typer.echo(f"{left_out} more, between the first and the second of these, are not kept.")
    if trace := errors[-1].get("traceback"):
        print_heading("traceback of the last one")
        typer.echo(str(trace).rstrip())


def log_line(line: LogLine) -> str:
    """A line of a run's log as a person reads it; a traceback below it."""
    fields = {name: value for name, value in line.fields.items() if name != "exception"}
    at = line.at.astimezone()
    parts = [
        f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}{at:%z}",
        f"[{line.level}]",
        f"#{line.attempt}",
        line.message,
    ]
    parts += [f"{name}={value}" for name, value in fields.items()]
    trace = line.fields.get("exception")
    return " ".join(parts) + (f"\n{trace}".rstrip() if trace else "")


def _print_data(data: Any) -> None:
    typer.echo(json_text(data))
