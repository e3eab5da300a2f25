"""Effects: steps for what must not happen twice elsewhere.

That one is begun is on record before its function is called. A leg that finds it begun asks whether it happened.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import structlog

from cgk_tasks.runs.steps import Memo
from cgk_tasks.runs.text import storable_json, text_of
from cgk_tasks.workflows.calls import Call

log = structlog.get_logger("cgk_tasks.runs")


class Reconciled(Enum):
    """What a `reconcile` says of an effect whose result it does not have."""

    NOT_DONE = "not done"
    """It did not happen, and is done again."""
    UNKNOWN = "unknown"
    """Nobody can tell: the run waits for a person's decision."""


def decision(call: Call, payload: str) -> Memo:
    """What becomes of an effect by a person's signal: `{"outcome": "done", "result": ...}`, `{"outcome": "failed"}` or
    `{"outcome": "again"}`. After any other signal it waits on.
    """
    said: Any = json.loads(payload)
    outcome = said.get("outcome") if isinstance(said, dict) else None
    if outcome == "done":
        return call.ended("done", result=json.dumps(said.get("result")))
    if outcome == "failed":
        reason = text_of(said.get("reason") or "it was decided that it failed")
        return call.ended("failed", error=storable_json({"code": "EFFECT_FAILED", "message": reason}))
    if outcome == "again":
        return call.open("begun")
    log.warning(
        "decision_not_understood", effect=call.name,
        hint='Signal {"outcome": "done", "result": ...}, {"outcome": "failed"} or {"outcome": "again"}.',
    )  # fmt: skip
    return call.waiting(awaits=(call.name,))
