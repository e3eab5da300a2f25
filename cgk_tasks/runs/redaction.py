"""Taking personal data out of what a run logs: the values of the fields that its event marks as sensitive."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any, Final

from pydantic import BaseModel

from cgk_tasks.events.base import sensitive_fields
from cgk_tasks.events.fields import Sensitive

REDACTED: Final = "[redacted]"

_SHORTEST = 4
"""Shorter values are not looked for in texts: they would be found in every other word."""
_WHOLE_WORDS_BELOW = 6
_DEPTH = 8


class Redactor:
    """For one payload: an event, or anything else, which has no sensitive fields."""

    def __init__(self, payload: object) -> None:
        self._payload = payload if isinstance(payload, BaseModel) else None

        self._names = frozenset[str]() if self._payload is None else _names(type(self._payload))

    @cached_property
    def _values(self) -> list[str]:
        if self._payload is None or not self._names:
            return []
        found = {value for value in _sensitive_values(self._payload) if len(value) >= _SHORTEST}
        found.discard(str(getattr(self._payload, "tenant_id", "")))
        return sorted(found, key=len, reverse=True)  # a value may be a part of another one

    def text(self, text: str) -> str:
        """The text with each sensitive value replaced."""
        for value in self._values:
            if value in text:
                if len(value) < _WHOLE_WORDS_BELOW:
                    text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", REDACTED, text)
                else:
                    text = text.replace(value, REDACTED)
        return text

    def value(self, value: Any, depth: int = 0) -> Any:
        """JSON-ready data in which each sensitive value is replaced, and what stands under a sensitive field's name."""
        if value is None or isinstance(value, bool | int):
            return REDACTED if str(value) in self._values else value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str) or depth > _DEPTH:
            return self.text(str(value))
        if isinstance(value, BaseModel):
            value = value.model_dump()
        if isinstance(value, Mapping):
            return {
                str(name): REDACTED if name in self._names else self.value(item, depth + 1)
                for name, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item, depth + 1) for item in value]
        return self.text(str(value))

    def field(self, name: str, value: Any) -> Any:
        """The value of one named field of a line."""
        return REDACTED if name in self._names and value is not None else self.value(value)


@cache
def _names(model: type[BaseModel]) -> frozenset[str]:
    return sensitive_fields(model) | sensitive_fields(model, by_alias=True)


def _sensitive_values(model: BaseModel) -> Iterator[str]:
    for name in sensitive_fields(type(model)):
        marked = any(isinstance(mark, Sensitive) for mark in type(model).model_fields[name].metadata)
        yield from _leaves(getattr(model, name), marked=marked)


def _leaves(value: Any, *, marked: bool) -> Iterator[str]:
    """The texts and numbers in a value. Not marked: only what a model inside it marks, if there is one."""
    if isinstance(value, BaseModel):
        if marked:
            yield from _leaves(dict(value), marked=True)
        else:
            yield from _sensitive_values(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item, marked=marked)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, marked=marked or isinstance(item, str))
    elif value is not None and not isinstance(value, bool):
        yield str(value)
