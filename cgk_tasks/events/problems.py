"""Turning pydantic's findings about a payload into lines a person can act on.

A line never quotes the value of a field, which may be personal data, unless a fixed set of words was expected.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cgk_tasks.errors import InvalidTenantError, PayloadInvalidError, TenantError, TenantMissingError

if TYPE_CHECKING:
    from cgk_tasks.events.base import TenantEvent

_JSON_TYPES = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    dict: "an object",
    list: "an array",
    type(None): "null",
}
_EXAMPLE_TIME = "2026-01-31T09:00:00Z"


def payload_error(event: "type[TenantEvent]", error: ValidationError) -> TenantError | PayloadInvalidError:
    """The error to raise instead of pydantic's: about the tenant if it is at fault, else one line a problem."""
    details = error.errors(include_url=False)
    for detail in details:
        if detail["loc"] in {("tenantId",), ("tenant_id",)} and detail["type"] != "extra_forbidden":
            if detail["type"] == "missing" or detail["input"] is None:
                return TenantMissingError(event.event_name)
            return InvalidTenantError(detail["input"])
    return PayloadInvalidError(event.event_name, [_line(event, detail) for detail in details])


def problems_by_place(error: ValidationError) -> list[tuple[tuple[int | str, ...], str]]:
    """Each problem with its place in the payload, in words that go on after the name of the field: `is missing`."""
    return [
        (detail["loc"], "is no field of it" if detail["type"] == "extra_forbidden" else _fault(detail))
        for detail in error.errors(include_url=False)
    ]


def _line(event: type[BaseModel], detail: ErrorDetails) -> str:
    path = _path(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return _unknown_field(event, detail["loc"], path)
    return f"field {path!r} {_fault(detail)}" if path else f"it {_fault(detail)}"


def _fault(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "json_invalid":
            return f"is not JSON: {detail['ctx']['error']}"
        case "timezone_aware":
            return f"must have a time zone, like {_EXAMPLE_TIME}"
        case "literal_error":
            return f"must be {detail['ctx']['expected']}, not {_short(detail['input'])}"
        case kind if kind.startswith(("datetime_", "timestamp_")):
            return f"must be a datetime, or ISO 8601 text like {_EXAMPLE_TIME}"
        case _:
            return _reworded(detail)


def _reworded(detail: ErrorDetails) -> str:
    """Pydantic's own text, to follow the name of the field."""
    message, found = detail["msg"], _type_of(detail["input"])
    if not message.startswith("Input should "):
        return f"is wrong: {message}"
    rule = message.removeprefix("Input should ")
    # "must be a finite number, not a number" would only confuse.
    return f"must {rule}" if found.removeprefix("a ") in rule or found == "Decimal" else f"must {rule}, not {found}"


def _unknown_field(event: type[BaseModel], loc: tuple[int | str, ...], path: str) -> str:
    model = _model_at(event, loc[:-1])
    if loc[-1] in model.model_fields:
        return f"field {path!r} is given twice, also as {model.model_fields[str(loc[-1])].alias!r}"
    near = _nearest(str(loc[-1]), model)
    hint = f": did you mean {near!r}?" if near else f": {model.__name__} has {_listed(_wire_names(model))}"
    return f"unknown field {path!r}{hint}"


def _nearest(field: str, model: type[BaseModel]) -> str | None:
    # Case is ignored, for 'orderID'. Wire names come first: they win when both spellings are equally near.
    spellings = {name.lower(): name for name in reversed([*_wire_names(model), *model.model_fields])}
    near = get_close_matches(field.lower(), spellings, n=1)
    return spellings[near[0]] if near else None


def _wire_names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], loc: Iterable[int | str]) -> type[BaseModel]:
    """The model nested in `model` at a place that pydantic names."""
    for step in loc:
        for name, field in model.model_fields.items():
            if step in {name, field.alias}:
                model = nested_model(field.annotation) or model
    return model


def nested_model(annotation: Any) -> type[BaseModel] | None:
    """The first model that an annotation has in it: `Address` of `list[Address] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := nested_model(part))), None)


def _path(loc: tuple[int | str, ...]) -> str:
    text = ".".join(str(step) for step in loc)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _type_of(value: object) -> str:
    return _JSON_TYPES.get(type(value), type(value).__name__)
