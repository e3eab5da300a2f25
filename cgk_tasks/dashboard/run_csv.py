"""Runs as lines of CSV, without their payloads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from cgk_tasks.dashboard.data.run_search import ListedRun

_COLUMNS: Final = (
    "id", "sent_at", "tenant_id", "event", "job", "state", "attempt", "error_code", "run_at", "started_at", "closed_at",
    "parent_id", "replay_of",
)  # fmt: skip
HEADER: Final = f"{','.join(_COLUMNS)}\r\n"


def csv_lines(runs: Iterable[ListedRun]) -> str:
    """A line for each, with times of UTC as ISO 8601."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(getattr(run, column)) for column in _COLUMNS] for run in runs)
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    # A spreadsheet takes a text that begins so for a formula.
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")):
        return f"'{value}"
    return value
