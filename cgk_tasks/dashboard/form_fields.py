"""The fields of an event, as a form and a table show them: read from the JSON schema of its model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from cgk_tasks.events.base import marked_fields, sensitive_fields
from cgk_tasks.events.problems import nested_model

Kind = Literal["text", "integer", "number", "decimal", "choice", "datetime", "date", "time", "list", "object", "json"]

LEFT_OUT: Final = frozenset({"tenantId"})
"""Not asked for with the fields of an event: a form has the tenant on top."""
_DEEPEST: Final = 3
"""Objects in objects, so far. What is deeper is JSON."""
_IN_LISTS: Final = frozenset({"text", "integer", "number", "decimal", "choice", "datetime", "date", "time"})
_KINDS: Final[Mapping[str, Kind]] = {"string": "text", "integer": "integer", "number": "number", "boolean": "choice"}
_TIMES: Final[Mapping[str, Kind]] = {"date-time": "datetime", "date": "date", "time": "time"}
_NAMES: Final[Mapping[Kind, str]] = {
    "text": "text", "integer": "whole number", "number": "number", "decimal": "decimal number", "datetime": "time",
    "date": "date", "time": "time of day", "object": "object", "json": "JSON",
}  # fmt: skip
_RULES: Final = (
    ("minimum", "at least {}"), ("exclusiveMinimum", "more than {}"), ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"), ("multipleOf", "a multiple of {}"), ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"), ("pattern", "matches {}"), ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """One field. path: the names on the wire that lead to it. rules: its constraints, in words.

    choices: the values that it may have, as JSON texts. fields: those of an object. item: of a list. default: as JSON
    text; empty if there is none. may_be_null: where it is required, None says that it has no value.
    """

    path: tuple[str, ...]
    kind: Kind
    title: str = ""
    description: str = ""
    rules: tuple[str, ...] = ()
    is_required: bool = False
    may_be_null: bool = False
    is_personal: bool = False
    default: str = ""
    choices: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    item: Field | None = None
    format: str = ""

    @property
    def name(self) -> str:
        """Of the control in a form."""
        return ".".join(("f", *self.path))

    @property
    def label(self) -> str:
        return ".".join(self.path)

    @property
    def type_name(self) -> str:
        """What it is, in words: `list of text`, `one of "a", "b"`."""
        if self.kind == "choice":
            return "yes or no" if set(self.choices) == {"true", "false"} else f"one of {', '.join(self.choices)}"
        if self.kind == "list" and self.item is not None:
            return f"list of {self.item.type_name}"
        return self.format if self.kind == "text" and self.format else _NAMES[self.kind]


def flat(fields: tuple[Field, ...]) -> Iterator[Field]:
    """The fields, each object followed by its own."""
    for field in fields:
        yield field
        yield from flat(field.fields)


@cache
def fields_of(event: type[BaseModel]) -> tuple[Field, ...] | None:
    """The event's fields in their order, without the tenant. None for a model that no JSON schema can describe."""
    try:
        schema = event.model_json_schema(schema_generator=_Schema)
    except PydanticUserError:
        return None
    reader = _Reader(schema.get("$defs", {}))
    fields = reader.fields(reader.resolved(schema), event, ())
    names = [field.name for field in flat(fields)]
    return fields if len(set(names)) == len(names) else None


class _Schema(GenerateJsonSchema):
    """A default that JSON cannot say is no reason to warn: the form shows none."""

    ignored_warning_kinds: ClassVar[set[JsonSchemaWarningKind]] = {"skipped-choice", "non-serializable-default"}  # type: ignore[misc]


@dataclass(frozen=True)
class _Reader:
    definitions: Mapping[str, Any]

    def fields(self, schema: Mapping[str, Any], model: type[BaseModel] | None, path: tuple[str, ...],
               *, is_personal: bool = False) -> tuple[Field, ...]:  # fmt: skip
        """Those of an object's schema. model: whose it is, where that is known."""
        known = _annotations(model) if model is not None else {}
        personal = _personal(model) if model is not None else frozenset()
        required = frozenset(schema.get("required", ()))
        return tuple(
            self.field(
                node, (*path, name), known.get(name), is_required=name in required,
                is_personal=is_personal or name in personal,
            )
            for name, node in schema.get("properties", {}).items()
            if path or name not in LEFT_OUT
        )  # fmt: skip

    def field(self, schema: Mapping[str, Any], path: tuple[str, ...], annotation: Any = None, *,
              is_required: bool = False, is_personal: bool = False) -> Field:  # fmt: skip
        node, may_be_null = self.without_null(schema)
        kind = self.kind(node, len(path))
        model = nested_model(annotation)
        common: dict[str, Any] = {
            "title": _said_title(node.get("title", ""), path[-1]), "description": node.get("description", ""),
            "rules": _rules(node), "is_required": is_required, "may_be_null": may_be_null,
            "default": json.dumps(node["default"], ensure_ascii=False) if node.get("default") is not None else "",
            "format": node.get("format", ""),
        }  # fmt: skip
        if kind == "object":
            nested = self.fields(node, model, path, is_personal=is_personal)
            return Field(path, kind, **common, is_personal=is_personal, fields=nested)
        hides_personal = is_personal or (model is not None and bool(sensitive_fields(model)))
        if kind == "list":
            item = self.field(node.get("items", {}), path)
            return Field(path, kind, **common, is_personal=hides_personal, item=item)
        return Field(path, kind, **common, is_personal=hides_personal, choices=_choices(node))

    def without_null(self, schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        """The schema of a value that is there, and whether it may be null."""
        node = self.resolved(schema)
        members = [self.resolved(member) for member in node.get("anyOf", ())]
        present = [member for member in members if member.get("type") != "null"]
        rest = {name: value for name, value in node.items() if name != "anyOf"}
        if len(present) == 1:
            inner, may_be_null = self.without_null(present[0])
            return {**inner, **rest}, may_be_null or len(present) < len(members)
        return ({**rest, "anyOf": present} if members else node), len(present) < len(members)

    def kind(self, node: Mapping[str, Any], depth: int) -> Kind:
        if _choices(node):
            return "choice"
        if "anyOf" in node:
            return _kind_of_union([self.resolved(member) for member in node["anyOf"]])
        kind = node.get("type")
        if kind == "string":
            return _TIMES.get(node.get("format", ""), "text")
        if kind == "object":
            return "object" if node.get("properties") and depth <= _DEEPEST else "json"
        if kind == "array":
            return "list" if "prefixItems" not in node and self.is_simple(node.get("items", {})) else "json"
        return _KINDS.get(kind, "json") if isinstance(kind, str) else "json"

    def is_simple(self, schema: Mapping[str, Any]) -> bool:
        """Whether a value of it is a line of a list."""
        node, may_be_null = self.without_null(schema)
        return not may_be_null and self.kind(node, 0) in _IN_LISTS

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """With what it refers to in its place; what stands beside the reference comes first."""
        while "$ref" in schema:
            found = self.definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
            # The title of what it refers to is the name of a class.
            inner = {name: value for name, value in found.items() if name != "title"}
            schema = {**inner, **{name: value for name, value in schema.items() if name != "$ref"}}
        return schema


def _kind_of_union(members: list[Mapping[str, Any]]) -> Kind:
    """A Decimal is a number or its text, and what may be text may be given as text."""
    plain = all(not _choices(member) and "format" not in member for member in members)
    kinds = {str(member.get("type")) for member in members}
    if plain and kinds == {"number", "string"}:
        return "decimal"
    return "number" if plain and kinds == {"number", "integer"} else "json"


def _choices(node: Mapping[str, Any]) -> tuple[str, ...]:
    if "const" in node:
        values: list[Any] = [node["const"]]
    elif node.get("type") == "boolean":
        values = [True, False]
    else:
        values = list(node.get("enum", ()))
    return tuple(json.dumps(value, ensure_ascii=False) for value in values if value is not None)


def _rules(node: Mapping[str, Any]) -> tuple[str, ...]:
    nodes = [node, *node.get("anyOf", ())]
    found = [text.format(one[name]) for name, text in _RULES for one in nodes if name in one]
    return tuple(dict.fromkeys(found))


def _said_title(title: str, name: str) -> str:
    """A title that somebody gave. One that was made of the name says nothing more."""
    return "" if "".join(filter(str.isalnum, title)).lower() == "".join(filter(str.isalnum, name)).lower() else title


def _annotations(model: type[BaseModel]) -> dict[str, Any]:
    return {_wire_name(model, name): field.annotation for name, field in model.model_fields.items()}


def _personal(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(_wire_name(model, name) for name in marked_fields(model))


def _wire_name(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    return field.validation_alias if isinstance(field.validation_alias, str) else field.alias or name
