"""Leaving personal data out: of payloads, and of the texts that quote them.

What an event marks as `Sensitive()` is shown to nobody but those who are allowed to. A payload whose event is not known
here could hold anything, so nothing of it is shown but the tenant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from cgk_tasks.events.base import EVENTS_BY_NAME, searchable_fields, sensitive_fields

REDACTED: Final = "[redacted]"

_SHORTEST_SECRET = 3
"""Shorter values are not looked for in texts: they would be found everywhere."""


def redacted(event: str, payload: Any) -> Any:
    """The payload without what its event marks as personal data; without any value when the event is not known."""
    if not isinstance(payload, Mapping):
        return payload if payload is None else REDACTED
    hidden = _hidden(event, payload)
    return {name: REDACTED if name in hidden else value for name, value in payload.items()}


def summary(event: str, payload: Any) -> dict[str, Any]:
    """The payload's searchable fields that have a value: what a list shows of a run."""
    model = EVENTS_BY_NAME.get(event)
    if model is None or not isinstance(payload, Mapping):
        return {}
    return {name: payload[name] for name in searchable_fields(model, by_alias=True) if payload.get(name) is not None}


def _hidden(event: str, payload: Mapping[str, Any]) -> frozenset[str]:
    model = EVENTS_BY_NAME.get(event)
    if model is None:
        return frozenset(payload) - {"tenantId"}
    return sensitive_fields(model, by_alias=True)


@dataclass(frozen=True)
class Redaction:
    """Hides one payload's personal data wherever it may be quoted: in results, error texts and tracebacks."""

    event: str
    payload: Any

    @cached_property
    def _secrets(self) -> list[str]:
        if not isinstance(self.payload, Mapping):
            return list(_texts(self.payload))
        hidden = _hidden(self.event, self.payload)
        found = {text for name, value in self.payload.items() if name in hidden for text in _texts(value)}
        return sorted(found, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text with every sensitive value of the payload replaced."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text

    def data(self, data: Any) -> Any:
        """JSON data with every sensitive value of the payload replaced, keys included."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {self.text(str(name)): self.data(value) for name, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.data(value) for value in data]
        if isinstance(data, int | float) and not isinstance(data, bool) and str(data) in self._secrets:
            return REDACTED
        return data


def _texts(value: Any) -> Iterator[str]:
    """The values in JSON data as they would appear in a text. Line breaks and quotes may be escaped there."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool) and len(text := str(value)) >= _SHORTEST_SECRET:
        yield text
        if (quoted := repr(text)[1:-1]) != text:
            yield quoted
