"""Effects: steps for what must not happen twice elsewhere.

That one is begun is on record before its function is called. A leg that finds it begun asks whether it happened.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import structlog

from cgk_tasks.errors import PermanentError
from cgk_tasks.runs.steps import Memo
from cgk_tasks.runs.text import storable_json, text_of
from cgk_tasks.workflows.calls import Call
from cgk_tasks.workflows.results import decoded

log = structlog.get_logger("cgk_tasks.runs")


class Reconciled(Enum):
    """What a `reconcile` says of an effect whose result it does not have."""

    NOT_DONE = "not done"
    """It did not happen, and is done again."""
    UNKNOWN = "unknown"
    """Nobody can tell: the run waits for a person's decision."""


def decision(call: Call, kind: Any, payload: str) -> Memo:
    """What becomes of an effect by a person's signal: `{"outcome": "done", "result": ...}`, `{"outcome": "failed"}` or
    `{"outcome": "again"}`. After any other signal it waits on, and where the result is none of the effect's kind.
    """
    said: Any = json.loads(payload)
    outcome = said.get("outcome") if isinstance(said, dict) else None
    hint = 'Signal {"outcome": "done", "result": ...}, {"outcome": "failed"} or {"outcome": "again"}.'
    if outcome == "done":
        text = json.dumps(said.get("result"))
        try:
            decoded(text, kind, call.name)
        except PermanentError as exc:
            hint = exc.text
        else:
            return call.ended("done", result=text)
    if outcome == "failed":
        reason = text_of(said.get("reason") or "it was decided that it failed")
        return call.ended("failed", error=storable_json({"code": "EFFECT_FAILED", "message": reason}))
    if outcome == "again":
        return call.open("begun")
    log.warning("decision_not_understood", effect=call.name, hint=hint)
    return call.waiting(awaits=(call.name,))
