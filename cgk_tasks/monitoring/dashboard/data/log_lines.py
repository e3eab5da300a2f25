"""The log lines of a run, where the record has them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cgk_tasks.events.redaction import Redaction
from cgk_tasks.monitoring.dashboard.data.reading import SQL, reading
from cgk_tasks.postgres import fetch

_MODULE = "cgk_tasks.runs.logs"


def log_lines(run_id: str, hide: Redaction | None = None) -> list[dict[str, Any]]:
    """The lines that `cgk_tasks.runs.logs.lines` gives, as dictionaries; none where runs' logs are not kept."""
    if find_spec(_MODULE) is None:
        return []
    with reading() as connection:
        if not fetch(connection, SQL["has_run_logs"])[0]["exists"]:
            return []
    lines = [_as_dict(line) for line in import_module(_MODULE).lines(run_id)]
    return [hide.data(line) for line in lines] if hide else lines


def _as_dict(line: Any) -> dict[str, Any]:
    if isinstance(line, Mapping):
        return dict(line)
    names = getattr(line, "__slots__", None) or vars(line)
    return {name: getattr(line, name) for name in names}
