"""Leaving personal data out: of payloads, and of the results, error texts and log lines that quote them.

What an event marks as `Sensitive()` is shown to nobody but those who are allowed to. A payload whose event is not known
here could hold anything, so nothing of it is shown but the tenant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json, to_jsonable_python

from cgk_tasks.events.base import marked_fields, searchable_fields, sensitive_fields
from cgk_tasks.events.registry import find_event
from cgk_tasks.events.typed_values import shown

REDACTED: Final = "[redacted]"

_SHORTEST: Final = 3
_ANYWHERE_FROM: Final = 6
"""How long a value must be to be looked for in texts, and to be found inside words too.

Three characters are a person's name (Kim, Ada) and stand out as a word. Two are half of all words, numbers and codes:
to replace them would hide nothing and spoil the text. Up to five, a value is often a part of other words (Ada in
Canada); from six on that is rare, and an address that is glued to something else must not slip through.
"""

_OF_EVERY_ERROR: Final = frozenset({"attempt", "at", "began_at", "kind", "code", "type", "module", "trace"})
"""Of an attempt's error, what the framework or the source code says. The rest may quote the payload."""


def redacted(event: str, payload: Any) -> Any:
    """The payload without what its event marks as personal data; without any value when the event is not known."""
    if isinstance(payload, list) and find_event(event) is not None:
        return [redacted(event, one) for one in payload]  # of a Batch
    if not isinstance(payload, Mapping):
        return payload if payload is None else REDACTED
    hidden = _hidden_names(event, payload)
    return {name: REDACTED if name in hidden else value for name, value in payload.items()}


def summary(event: str, payload: Any) -> dict[str, Any]:
    """The payload's searchable fields that have a value: what a list shows of a run; of several events, the first's."""
    model = find_event(event)
    if isinstance(payload, list) and payload:
        payload = payload[0]  # of a Batch
    if model is None or not isinstance(payload, Mapping):
        return {}
    return {name: payload[name] for name in searchable_fields(model, by_alias=True) if payload.get(name) is not None}


@dataclass(frozen=True)
class Redaction:
    """Hides one payload's personal data wherever it may be quoted.

    payload: an event, or a payload as it is stored, whose event is called `event`. Costs nothing until it is used; then
    the values to look for are found once.
    """

    event: str
    payload: Any = field(repr=False)

    def text(self, text: str) -> str:
        """The text with every sensitive value of the payload replaced."""
        found = [secret for secret in self._secrets if secret in text]
        if not found:
            return text
        if (
            len(found) == 1 and len(found[0]) >= _ANYWHERE_FROM
        ):  # the most frequent case; a pattern costs 100 µs to make
            return text.replace(found[0], REDACTED)
        return self._pattern.sub(REDACTED, text)

    def data(self, data: Any) -> Any:
        """JSON data without the sensitive values, keys included, and without what stands under a sensitive field's
        name.
        """
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {self.text(str(name)): self.field(str(name), value) for name, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.data(value) for value in data]
        if isinstance(data, int | float) and not isinstance(data, bool) and str(data) in self._secrets:
            return REDACTED
        return data

    def field(self, name: str, value: Any) -> Any:
        """The value that stands under a name in JSON data."""
        return REDACTED if value is not None and name in self._names else self.data(value)

    def errors(self, errors: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The errors of a run's attempts, without sensitive values in their texts."""
        return [
            {name: value if name in _OF_EVERY_ERROR else self.data(value) for name, value in error.items()}
            for error in errors
        ]

    @cached_property
    def _names(self) -> frozenset[str]:
        model = type(self.payload) if isinstance(self.payload, BaseModel) else find_event(self.event)
        if model is not None:
            return sensitive_fields(model) | sensitive_fields(model, by_alias=True)
        return _hidden_names(self.event, self.payload) if isinstance(self.payload, Mapping) else frozenset()

    @cached_property
    def _secrets(self) -> tuple[str, ...]:
        """The longest first: one may be a part of another."""
        values = {form for value in _sensitive_values(self.event, self.payload) for form in _forms(value)}
        values.discard(_tenant_of(self.payload))  # stands in every line, and is no secret
        return tuple(sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(
            "|".join(
                re.escape(secret) if len(secret) >= _ANYWHERE_FROM else rf"(?<!\w){re.escape(secret)}(?!\w)"
                for secret in self._secrets
            )
        )


class WholeRedaction(Redaction):
    """Of a payload that is not there any more: nobody can tell what quotes it, so no value is shown that may."""

    def text(self, text: str) -> str:
        return REDACTED if text else text

    def data(self, data: Any) -> Any:
        """Of an object or a list nothing but what it is."""
        return data if data is None else type(data)() if isinstance(data, dict | list) else REDACTED


def redaction_of(event: str, stored: str | None) -> Redaction:
    """Hides what is personal in a payload. stored: its text; None where it is not there any more."""
    return WholeRedaction(event, None) if stored is None else Redaction(event, json.loads(stored))


def _hidden_names(event: str, payload: Mapping[str, Any]) -> frozenset[str]:
    model = find_event(event)
    return frozenset(payload) - {"tenantId"} if model is None else sensitive_fields(model, by_alias=True)


def _sensitive_values(event: str, payload: Any) -> Iterator[Any]:
    if isinstance(payload, BaseModel):
        yield from _marked_values(payload)
    elif isinstance(payload, list) and all(map(_is_event, payload)):
        for one in payload:  # of a Batch
            yield from _sensitive_values(event, one)
    elif not isinstance(payload, Mapping):
        yield from _leaves(payload)
    elif (read := _read(event, payload)) is not None:
        yield from _marked_values(read)
    else:
        hidden = _hidden_names(event, payload)
        yield from _leaves([shown(event, value) for name, value in payload.items() if name in hidden])


def _is_event(data: Any) -> bool:
    """Whether it is one, or as one is stored."""
    return isinstance(data, BaseModel) or (isinstance(data, Mapping) and "tenantId" in data)


def _read(event: str, payload: Mapping[str, Any]) -> BaseModel | None:
    """The event, which knows what is marked in the objects in it. None if it is not known, or has changed since."""
    model = find_event(event)
    try:
        return None if model is None else model.model_validate_json(to_json(payload))
    except ValidationError:
        return None


def _marked_values(model: BaseModel) -> Iterator[Any]:
    marked = marked_fields(type(model))
    for name in sensitive_fields(type(model)):
        value = getattr(model, name)
        if name in marked:
            yield from _leaves(value)
        else:
            for nested in _models(value):
                yield from _marked_values(nested)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple | set | frozenset) else ()


def _leaves(value: Any) -> Iterator[Any]:
    """The texts, numbers and the like in a value."""
    if isinstance(value, BaseModel | Mapping | list | tuple | set | frozenset):
        for part in _parts(value):
            yield from _leaves(part)
    elif value is not None and not isinstance(value, bool):
        yield value


def _models(value: Any) -> Iterator[BaseModel]:
    """The nearest models in a value."""
    if isinstance(value, BaseModel):
        yield value
    else:
        for part in _parts(value):
            yield from _models(part)


def _forms(value: Any) -> Iterator[str]:
    """A value as texts quote it: as in Python, as in JSON, and in an address of the web."""
    texts = {str(value)}
    if not isinstance(value, str):
        texts.add(str(to_jsonable_python(value, fallback=str)))
    if isinstance(value, Decimal):
        texts.add(str(float(value)))  # how money is stored
    for text in texts:
        yield text
        yield repr(text)[1:-1]
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield quote(text, safe="", errors="replace")
        yield quote_plus(text, errors="replace")


def _tenant_of(payload: Any) -> str:
    if isinstance(payload, list) and payload:
        payload = payload[0]
    found = payload.get("tenantId") if isinstance(payload, Mapping) else getattr(payload, "tenant_id", None)
    return str(found or "")
