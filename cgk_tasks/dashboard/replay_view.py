"""What the page of a run shows for a replay with another payload: a form, or the payload as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cgk_tasks.dashboard.display import as_json
from cgk_tasks.dashboard.event_form import Control, FormError, Texts, controls_of, fits, texts_of
from cgk_tasks.dashboard.form_fields import fields_of
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.events.registry import find_event


@dataclass(frozen=True, slots=True)
class Tried:
    """A replay that was refused: what was typed, into the form or as JSON, and why it was."""

    error: CgkTasksError
    texts: Texts | None = None
    json: str = ""


@dataclass(frozen=True, slots=True)
class ReplayView:
    """controls: of the form; None where it is JSON. has_form: whether there is a form besides. problem: of no field."""

    controls: tuple[Control, ...] | None
    json: str
    has_form: bool
    problem: str = ""


def replay_view(event: str, payload: Any, tried: Tried | None, *, as_text: bool) -> ReplayView:
    """payload: as it is shown. as_text: JSON was asked for."""
    model = find_event(event)
    fields = fields_of(model) if model is not None and fits(model, payload) else None
    problem = "" if tried is None else str(tried.error)
    if fields is None or as_text or (tried is not None and tried.texts is None):
        text = tried.json if tried is not None and tried.texts is None else as_json(payload)
        return ReplayView(None, text, fields is not None, problem)
    at: Mapping[str, tuple[str, ...]] = {}
    if tried is not None and isinstance(tried.error, FormError):
        at, problem = tried.error.at, " ".join(tried.error.at.get("", ()))
    texts = texts_of(fields, payload) if tried is None or tried.texts is None else tried.texts
    return ReplayView(tuple(controls_of(fields, texts, at)), "", has_form=True, problem=problem)
