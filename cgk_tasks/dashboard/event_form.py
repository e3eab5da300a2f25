"""A form for an event's payload: from values to the texts of its controls, and from what was typed back to a payload.

An empty control leaves its field out. A control that is missing, or says what it said at first, keeps the value that
was there, to the last digit; so does one that says `[redacted]`, whose value was never shown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

from pydantic import ValidationError

from cgk_tasks.dashboard.form_fields import LEFT_OUT, Field, fields_of, flat
from cgk_tasks.errors import InvalidTenantError, PayloadInvalidError, TenantMissingError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import MONEY_DIGITS
from cgk_tasks.events.problems import payload_error, problems_by_place
from cgk_tasks.events.redaction import REDACTED

Texts = Mapping[str, str]
"""What the controls of a form say, by their names."""

_ABSENT: Final = object()
_WHOLE: Final = re.compile(r"[+-]?\d{1,4000}")
_NUMBER: Final = re.compile(r"[+-]?(\d{1,4000}(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?")
_LOCAL_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?")
_UTC_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?)(?:Z|\+00:00)")
_PICKERS: Final = {
    "datetime": ("datetime-local", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")),
    "date": ("date", re.compile(r"\d{4}-\d\d-\d\d")), "time": ("time", re.compile(r"\d\d:\d\d(:\d\d)?")),
}  # fmt: skip
"""The kinds of input that pick a value, each with the texts that it can show."""
_HINTS: Final = {"json": "as JSON", "object": "as JSON", "list": "one a line, or a list as JSON", "datetime": "of UTC"}
_LONG: Final = 80


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a list."""

    value: str
    text: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Control:
    """What stands for a field in a form, in its order. `open` and `close` are the ends of an object's fieldset.

    type: of an input. text: what it says. problems: what is wrong with it.
    """

    field: Field
    control: Literal["open", "close", "input", "area", "select"]
    type: str = "text"
    text: str = ""
    options: tuple[Option, ...] = ()
    problems: tuple[str, ...] = ()
    hint: str = ""

    @property
    def id(self) -> str:
        return self.field.name.replace(".", "-")


@dataclass(frozen=True, slots=True)
class Read:
    """What was read from a form: the payload, and what could not be read, by the names of controls."""

    payload: dict[str, Any] = field(repr=False)
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class FormError(PayloadInvalidError):
    """A form that does not make an event. at: the problems of each control by its name; those of none by ''."""

    def __init__(self, event: str, lines: list[str], at: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(event, lines)
        self.at = at


def fits(event: type[TenantEvent], payload: Any) -> bool:
    """Whether a form can show this payload: it is one event, whose fields are those of today."""
    fields = fields_of(event)
    if fields is None or not isinstance(payload, Mapping):
        return False
    return payload.keys() - LEFT_OUT <= {one.path[0] for one in fields}


def texts_of(fields: tuple[Field, ...], payload: Mapping[str, Any]) -> dict[str, str]:
    """What the controls say of a payload. An object that no fieldset can show has a control of its own name."""
    texts: dict[str, str] = {}
    for one in fields:
        value = payload.get(one.path[-1], _ABSENT)
        if one.kind != "object":
            texts[one.name] = _text(one, value)
        elif value is _ABSENT or value is None or _has_fieldset(one, value):
            texts |= texts_of(one.fields, value if isinstance(value, Mapping) else {})
        else:
            texts[one.name] = _text(one, value)
    return texts


def _has_fieldset(one: Field, value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() <= {inner.path[-1] for inner in one.fields}


def _text(one: Field, value: Any) -> str:
    if value is _ABSENT or value is None or value == REDACTED:
        return "" if value is _ABSENT or value is None else REDACTED
    if one.kind == "choice":
        return json.dumps(value, ensure_ascii=False)
    if one.kind == "list" and one.item is not None and isinstance(value, list):
        return _lines_of(one.item, value) or _json(value)
    if isinstance(value, str) and one.kind not in {"json", "list", "object"}:
        utc = _UTC_TIME.fullmatch(value) if one.kind == "datetime" else None
        return utc[1] if utc is not None else _same_newlines(value)
    return _json(value)


def _lines_of(item: Field, values: list[Any]) -> str:
    """One a line; empty where they cannot be told apart so, or would be taken for JSON."""
    lines = [_text(item, value) for value in values]
    is_plain = all(line.strip() == line != "" and "\n" not in line for line in lines)
    return "\n".join(lines) if is_plain and not "".join(lines).startswith("[") else ""


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _same_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(fields: tuple[Field, ...], texts: Texts, before: Mapping[str, Any] | None = None) -> Read:
    """The payload that the controls make, without the tenant.

    before: the payload that they said at first, of which what was left alone is kept.
    """
    problems: dict[str, tuple[str, ...]] = {}
    return Read(_object(fields, texts, before or {}, problems), problems)


def _object(
    fields: tuple[Field, ...], texts: Texts, before: Mapping[str, Any], problems: dict[str, tuple[str, ...]]
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for one in fields:
        was = before.get(one.path[-1], _ABSENT)
        if one.kind == "object" and one.name not in texts:
            inner = _object(one.fields, texts, was if isinstance(was, Mapping) else {}, problems)
            value = inner if inner or (one.is_required and not one.may_be_null) else _ABSENT
            if not inner and isinstance(was, Mapping) and not was:
                value = was
        else:
            try:
                value = _value(one, _same_newlines(texts[one.name]), was) if one.name in texts else was
            except ValueError as exc:
                problems[one.name] = (str(exc),)
                continue
        if value is _ABSENT and (was is None or (one.is_required and one.may_be_null)):
            value = None
        if value is not _ABSENT:
            made[one.path[-1]] = value
    return made


def _value(one: Field, text: str, was: Any) -> Any:
    """Raises ValueError, whose text goes on after the field's name."""
    if was is not _ABSENT and text in {REDACTED, _text(one, was)}:
        return was
    if not text.strip():
        return _ABSENT
    if one.kind in {"json", "object"}:
        return _parsed(text)
    if one.kind == "list" and one.item is not None:
        if text.lstrip().startswith("["):
            return _parsed(text)
        return [_scalar(one.item, line.strip()) for line in text.split("\n") if line.strip()]
    return _scalar(one, text)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"is not JSON: {exc}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _scalar(one: Field, text: str) -> Any:
    """What is no number stays as it was typed: the event's model says what is wrong with it."""
    plain = text.strip()
    match one.kind:
        case "integer" if _WHOLE.fullmatch(plain):
            return int(plain)
        case "number" if _NUMBER.fullmatch(plain):
            return _number(plain)
        case "decimal" | "date" | "time":
            return plain
        case "datetime":
            return f"{plain}Z" if _LOCAL_TIME.fullmatch(plain) else plain
        case "choice":
            return json.loads(plain) if plain in one.choices else plain
        case _:
            return text


def _number(text: str) -> int | float | str:
    """As JSON can carry it. Raises ValueError for more digits than it could."""
    try:
        exact = Decimal(text)
    except InvalidOperation:
        return text
    if exact == exact.to_integral_value() and abs(exact) < 10**MONEY_DIGITS:
        return int(exact)
    number = float(exact)
    if not math.isfinite(number):
        return text
    if len(exact.normalize().as_tuple().digits) > MONEY_DIGITS:
        raise ValueError(f"must have at most {MONEY_DIGITS} digits, as JSON can carry no more exactly")
    return number


def event_from(event: type[TenantEvent], made: Read, tenant_id: str) -> TenantEvent:
    """The event of a form. Raises FormError; InvalidTenantError and TenantMissingError for the tenant."""
    try:
        model = event.model_validate_json(json.dumps({**made.payload, "tenantId": tenant_id}))
    except ValidationError as error:
        found = payload_error(event, error)
        if isinstance(found, InvalidTenantError | TenantMissingError):
            raise found from None
        lines = [*_lines(made), *found.problems] if isinstance(found, PayloadInvalidError) else [str(found)]
        raise FormError(event.event_name, lines, _at(event, made, error)) from None
    if made.problems:
        raise FormError(event.event_name, _lines(made), made.problems)
    return model


def _lines(made: Read) -> list[str]:
    return [f"field {name.removeprefix('f.')!r} {text}" for name, texts in made.problems.items() for text in texts]


def _at(event: type[TenantEvent], made: Read, error: ValidationError) -> dict[str, tuple[str, ...]]:
    """Each problem at the control that it is about. A field that could not be read is not missing besides."""
    controls = {one.path: one for one in flat(fields_of(event) or ())}
    found: dict[str, list[str]] = {name: list(texts) for name, texts in made.problems.items()}
    for place, text in problems_by_place(error):
        names = tuple(str(step) for step in place)
        depth = next((size for size in range(len(names), 0, -1) if names[:size] in controls), 0)
        name = controls[names[:depth]].name if depth else ""
        if name in made.problems:
            continue
        rest = ".".join(names[depth:])
        found.setdefault(name, []).append(f"{_counted(place[depth:])} {text}" if rest else text)
    return {name: tuple(texts) for name, texts in found.items()}


def _counted(place: tuple[int | str, ...]) -> str:
    """A place inside a field, whose items are counted from 1."""
    return ".".join(f"item {step + 1}" if isinstance(step, int) else step for step in place)


def controls_of(
    fields: tuple[Field, ...], texts: Texts, problems: Mapping[str, tuple[str, ...]] | None = None
) -> Iterator[Control]:
    """The controls of a form in their order, saying these texts."""
    wrong = problems or {}
    for one in fields:
        at = wrong.get(one.name, ())
        if one.kind == "object" and one.name not in texts:
            yield Control(one, "open", problems=at)
            yield from controls_of(one.fields, texts, wrong)
            yield Control(one, "close")
        else:
            yield _control(one, texts.get(one.name, ""), at)


def _control(one: Field, text: str, problems: tuple[str, ...]) -> Control:
    if one.kind == "choice":
        return Control(one, "select", text=text, options=tuple(_options(one, text)), problems=problems)
    hint = _HINTS.get(one.kind, "")
    is_long = "\n" in text or len(text) > _LONG or (one.kind in {"json", "object", "list"} and text != REDACTED)
    if is_long:
        return Control(one, "area", text=text, problems=problems, hint=hint)
    picker, looks = _PICKERS.get(one.kind, ("text", None))
    is_picked = not text or (looks is not None and looks.fullmatch(text) is not None)
    return Control(one, "input", picker if is_picked else "text", text, (), problems, hint)


def _options(one: Field, text: str) -> Iterator[Option]:
    blank = f"not given, so {_in_words(one.default)}" if one.default else "not given"
    yield Option("", "choose one" if one.is_required and not one.may_be_null else blank, not text)
    for choice in one.choices:
        yield Option(choice, _in_words(choice), choice == text)
    if text and text not in one.choices:
        yield Option(text, text, is_chosen=True)


def _in_words(choice: str) -> str:
    value = json.loads(choice)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else choice
