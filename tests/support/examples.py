"""An example payload for every event, built from the types of its fields."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime

from cgk_tasks.events import WireModel, get_event

_VALUES: dict[Any, Any] = {
    str: 'Zażółć 🦊 <&> "quoted"',
    int: 2**40 + 1,
    bool: True,
    float: 0.1,
    Any: {"nested": [1, None, {"deep": "größer"}]},
    Decimal: 1234567.89,
    AwareDatetime: "2026-01-31T09:00:00.123456Z",
}


def example(event: str, tenant_id: str) -> dict[str, Any]:
    """The event's payload in wire form, with every field, optional ones too."""
    return {**_object(get_event(event)), "tenantId": tenant_id}


def _object(model: type[WireModel]) -> dict[str, Any]:
    return {field.alias or name: _value(field.annotation) for name, field in model.model_fields.items()}


def _value(annotation: Any) -> Any:
    if annotation in _VALUES:
        return _VALUES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _value(arguments[0])
    if origin is Literal:
        return arguments[-1]
    if origin is list:
        return [_value(arguments[0])] * 2
    if origin is dict:
        return {"key": _value(arguments[1])}
    if origin is Union or isinstance(annotation, type(int | None)):
        return _value(next(part for part in arguments if part is not type(None)))
    assert issubclass(annotation, WireModel), annotation
    return _object(annotation)
