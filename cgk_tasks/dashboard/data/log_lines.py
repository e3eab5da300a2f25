"""The log lines of a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cgk_tasks.events.redaction import Redaction
from cgk_tasks.runs.logs import lines


def log_lines(run_id: str, hide: Redaction | None = None) -> list[dict[str, Any]]:
    """What the run logged, as dictionaries.

    Redacted when it was logged, and once more here: this process may know less about the event than the worker did.
    """
    found = [asdict(line) for line in lines(run_id)]
    if hide is None:
        return found
    return [line | {"message": hide.text(line["message"]), "fields": hide.data(line["fields"])} for line in found]
