"""The reference page of the events, as Markdown."""

import inspect
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

from event_fields import CATALOG, NOTE, description, is_model, joined, parts_of, wire_name
from pydantic import AwareDatetime

from cgk_tasks.events.base import EVENTS_BY_NAME, WireModel, sensitive_fields
from cgk_tasks.events.registry import ALIASES, EVENT_CATEGORIES

WIRE_TYPES: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Decimal: "number",
    datetime: "date-time",
    AwareDatetime: "date-time",
}


REFERENCE_INTRO = f"""<!-- {NOTE} -->

# Events

The {len(CATALOG)} events of the catalog. Every payload also has `tenantId` (`tenant_id` in Python), required: the
tenant that the fact is about, `[a-z0-9][a-z0-9_-]{{0,62}}`. Fields that are not listed are refused.

A payload is sent as a model (`OrderCreated(tenant_id="acme", ...)`) or as a dict in wire form. *date-time* is a
`datetime` with a time zone, ISO 8601 text on the wire. Amounts are `Decimal` in Python and numbers on the wire, exact
to 15 digits. An optional field may be left out; *nullable* ones must be there, but may be null. *Personal data* is
left out of logs and dashboards.

A type checker knows every payload. mypy's message about a wrong `send_job("order.created", {{...}})` lists all events;
to be told the exact field, make the model first, or give the dict its type: `payload: OrderCreatedPayload = {{...}}`,
from `cgk_tasks.catalog.payloads`.
"""


def reference_page() -> str:
    lines = [REFERENCE_INTRO]
    for category, names in EVENT_CATEGORIES.items():
        events = [EVENTS_BY_NAME[name] for name in names]
        about = inspect.getdoc(sys.modules[events[0].__module__])
        lines += [
            f"## {category}",
            "",
            f"{about}",
            "",
            "| event | class | field | in Python | type | required | meaning |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for event in events:
            durable = "" if event.durable else " Not durable."
            lines.append(
                row(
                    f"`{event.event_name}`",
                    f"`{event.__name__}`",
                    "",
                    "",
                    "",
                    "",
                    f"{inspect.getdoc(event)}{durable}",
                )
            )
            lines += [row("", "", *cells) for cells in field_rows(event)]
        lines.append("")
    lines += ["## Second spellings", "", "| accepted | means |", "| --- | --- |"]
    lines += [row(f"`{alias}`", f"`{name}`") for alias, name in ALIASES.items()]
    return joined(lines)


def field_rows(model: type[WireModel], prefix: str = "") -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        if name == "tenant_id":
            continue
        wire = f"{prefix}{wire_name(name, field)}"
        kinds = parts_of(field.annotation)
        required = "yes" if field.is_required() else "no"
        nullable = ", nullable" if field.is_required() and type(None) in kinds else ""
        meaning = [description(field)]
        if name in sensitive_fields(model):
            meaning.append("Personal data.")
        yield (
            f"`{wire}`",
            f"`{prefix}{name}`",
            wire_type(kinds),
            required + nullable,
            " ".join(filter(None, meaning)),
        )
        for nested in filter(is_model, kinds):
            yield from field_rows(nested, prefix=f"{wire}.")


def wire_type(kinds: Iterable[Any]) -> str:
    return " or ".join(_wire_type(kind) for kind in kinds if kind is not type(None))


def _wire_type(kind: Any) -> str:
    if kind in WIRE_TYPES:
        return WIRE_TYPES[kind]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return "array" if item is Any else f"array of {wire_type(parts_of(item))}s"
    return "object"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
