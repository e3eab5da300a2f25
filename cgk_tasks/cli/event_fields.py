"""The fields of an event in words, and a payload that validates, both read from its model."""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from cgk_tasks.errors import CgkTasksError
from cgk_tasks.events.base import TenantEvent, sensitive_fields
from cgk_tasks.events.registry import parse_event

_TYPES: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Decimal: "number",
    datetime: "date-time",
    AwareDatetime: "date-time",
}
_EXAMPLES: dict[Any, Any] = {
    int: 1,
    float: 1.5,
    bool: True,
    Decimal: 59.97,
    datetime: "2026-03-01T09:00:00Z",
    AwareDatetime: "2026-03-01T09:00:00Z",
}
# By the end of the field's name, the first that fits.
_TEXT_EXAMPLES = {
    "tenant_id": "acme",
    "email": "ada@example.com",
    "phone": "+12025550123",
    "url": "https://example.com/file",
    "currency": "USD",
    "_id": "1001",
}


def fields(model: type[BaseModel], prefix: str = "") -> list[dict[str, Any]]:
    """One row a field, those of nested objects after theirs: wire and Python name, type, required, meaning."""
    return list(_fields(model, prefix))


def _fields(model: type[BaseModel], prefix: str) -> Iterator[dict[str, Any]]:
    hidden = sensitive_fields(model)
    for name, field in model.model_fields.items():
        wire = f"{prefix}{field.alias or name}"
        kinds = _members(field.annotation)
        nullable = field.is_required() and type(None) in kinds
        meaning = [_description(name, field), "Personal data." if name in hidden else ""]
        yield {
            "wire": wire,
            "python": f"{prefix}{name}",
            "type": " or ".join(_type_name(kind) for kind in kinds if kind is not type(None)),
            "required": "yes, may be null" if nullable else "yes" if field.is_required() else "no",
            "meaning": " ".join(filter(None, meaning)),
        }
        for kind in kinds:
            inner = next(iter(get_args(kind)), None) if get_origin(kind) is list else kind
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _fields(inner, f"{wire}.")


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone; without Annotated."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(kind for member in get_args(annotation) for kind in _members(member))
    return (annotation,)


def _type_name(kind: Any) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    if get_origin(kind) is Literal:
        return " | ".join(str(value) for value in get_args(kind))
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return "array" if item is Any else f"array of {_type_name(_members(item)[0])}"
    return "object"


def _description(name: str, field: FieldInfo) -> str:
    """The field's description, or that of its type inside `... | None`."""
    if name == "tenant_id":
        return field.description or "The tenant that the fact is about."
    if field.description:
        return field.description
    marks = (mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ()))
    return next((mark.description for mark in marks if isinstance(mark, FieldInfo) and mark.description), "")


def example(event: type[TenantEvent]) -> dict[str, Any] | None:
    """A payload in wire form with every required field. None where the fields' own rules refuse what we made up."""
    payload = _example_object(event)
    try:
        parse_event(event.event_name, payload)
    except CgkTasksError:
        return None
    return payload


def _example_object(model: type[BaseModel]) -> dict[str, Any]:
    return {
        field.alias or name: field.examples[0] if field.examples else _example(name, _members(field.annotation)[0])
        for name, field in model.model_fields.items()
        if field.is_required()
    }


def _example(name: str, kind: Any) -> Any:
    if kind is str:
        return next((text for ending, text in _TEXT_EXAMPLES.items() if name.endswith(ending)), "text")
    if kind in _EXAMPLES:
        return _EXAMPLES[kind]
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return [] if item is Any else [_example(name.removesuffix("s"), _members(item)[0])]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _example_object(kind)
    return {}
