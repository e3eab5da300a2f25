"""`TenantEvent`, the base of every event: a typed, immutable fact about one tenant.

    class OrderCreated(TenantEvent, event="order.created", category="commerce"):
        order_id: str
        total_amount: Money

Python says `order_id`, the wire says `orderId`; both are read, the wire form is written. Unknown fields are refused.
Subclassing with `event=` registers the event; a subclass without it is a shared base for an application's events.
"""

import re
from collections.abc import Collection, Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Unpack, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticSerializationError, to_json

from cgk_tasks.errors import TENANT_ID_RULE, InvalidTenantError, PayloadInvalidError
from cgk_tasks.events.fields import Searchable, Sensitive

INTERNAL: Final = "internal"
"""The category of events that cgk_tasks alone sends: no key of the HTTP API may."""

_TENANT_ID: Final = re.compile(TENANT_ID_RULE)
_EVENT_NAME: Final = re.compile(r"[a-z][A-Za-z0-9_]*(\.[a-z][A-Za-z0-9_]*)+")

TenantId = Annotated[str, StringConstraints(pattern=f"^{TENANT_ID_RULE}$")]

_events_by_name: dict[str, "type[TenantEvent]"] = {}
EVENTS_BY_NAME: Final[Mapping[str, "type[TenantEvent]"]] = MappingProxyType(_events_by_name)
"""The registered events by their names: the application's, and those of the catalog whose modules were imported."""

_homes: dict[str, str] = {}
"""The catalog's events, each with the module that defines it, which is imported when the event is first asked for."""
_telemetry: set[str] = set()
"""Those of them that are not durable."""


def validate_tenant_id(value: object) -> str:
    """Return `value` if it is a well-formed tenant id: 1 to 63 of a-z, 0-9, `_`, `-`, not starting with `_` or `-`.

    Raises InvalidTenantError otherwise. Says nothing about whether the tenant exists.
    """
    if isinstance(value, str) and _TENANT_ID.fullmatch(value):
        return value
    raise InvalidTenantError(value)


class WireModel(BaseModel):
    """A frozen model with the rules of the wire; the base of objects nested in events."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # a payload may hold personal data, and errors end up in logs
        defer_build=True,  # a process uses few of the catalog's events: the others cost neither start nor memory
    )


class TenantEvent(WireModel):
    """A fact about one tenant. Subclass it with `event="order.created"` to add an event.

    Class keywords: `event`, the name on the wire; `category`, for grouping (default "application"); `durable`, False
    for telemetry that may be lost with the broker. They are readable as `event_name`, `category` and `durable`.
    """

    event_name: ClassVar[str]
    category: ClassVar[str]
    durable: ClassVar[bool] = True
    # Required fields that may be None, with their wire names.
    _nullable: ClassVar[tuple[tuple[str, str], ...]] = ()

    tenant_id: TenantId

    def __init_subclass__(
        cls,
        *,
        event: str | None = None,
        category: str = "application",
        durable: bool = True,
        **config: Unpack[ConfigDict],
    ) -> None:
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, event: str | None = None, category: str = "application", durable: bool = True, **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        _refuse_reserved_fields(cls)
        if event is None:
            _refuse_unnamed_variant(cls)
            return
        cls.event_name, cls.category, cls.durable = event, category, durable
        cls._nullable = tuple(
            (name, field.alias or name)
            for name, field in cls.model_fields.items()
            if field.is_required() and type(None) in get_args(field.annotation)
        )
        _register(cls)
        if category == "application":
            cls.model_rebuild(raise_errors=False)  # a mistake in it is seen here, not at the first send

    def to_wire(self) -> dict[str, Any]:
        """The payload as JSON-ready data with camelCase names.

        An optional field that is None is left out; a required field that is None stays, as null.
        """
        wire: dict[str, Any] = self.__pydantic_serializer__.to_python(
            self, mode="json", by_alias=True, exclude_none=True
        )
        for name, wire_name in self._nullable:
            if getattr(self, name) is None:
                wire[wire_name] = None
        return wire

    def to_json(self) -> bytes:
        """The payload as UTF-8 JSON: the same content as `to_wire()`, in one call where it can be.

        Raises PayloadInvalidError if a text in it is not Unicode (it holds an unpaired surrogate).
        """
        try:
            if self._nullable:
                return to_json(self.to_wire())
            return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)
        except PydanticSerializationError as error:
            raise PayloadInvalidError(self.event_name, [f"it cannot be written as JSON: {error}"]) from None


def expect_events(homes: Mapping[str, str], telemetry: Collection[str]) -> None:
    """These events are defined in these modules, which need not be imported before somebody asks for an event.

    telemetry: those that are not durable. Raises TypeError if one of them is defined elsewhere already.
    """
    for name in homes.keys() & _events_by_name.keys():
        import_module(homes[name])
    _homes.update(homes)
    _telemetry.update(telemetry)


def registered(name: str) -> type[TenantEvent] | None:
    """The event called `name`, imported if it is one that is expected; None if there is none."""
    event = _events_by_name.get(name)
    if event is None and (home := _homes.get(name)) is not None:
        import_module(home)
        event = _events_by_name.get(name)
    return event


def names_of_registered() -> list[str]:
    """The names of all events: the expected ones in their order, then the others in that of their definition."""
    return list(dict.fromkeys((*_homes, *_events_by_name)))


def is_durable(name: str) -> bool:
    """Whether the runs of one of these events are kept on record."""
    event = _events_by_name.get(name)
    return name not in _telemetry if event is None else event.durable


def all_registered() -> list[type[TenantEvent]]:
    """Every event, in the same order."""
    for home in dict.fromkeys(_homes.values()):
        import_module(home)
    return [_events_by_name[name] for name in names_of_registered()]


def _register(cls: type[TenantEvent]) -> None:
    name = cls.event_name
    if not _EVENT_NAME.fullmatch(name):
        raise TypeError(f"{_full_name(cls)}: {name!r} is not an event name; write it like 'order.created'")
    known = _events_by_name.get(name) if _homes.get(name) == cls.__module__ else registered(name)
    # The same class again is a reloaded module, not a conflict.
    if known is not None and _full_name(known) != _full_name(cls):
        raise TypeError(
            f"event {name!r} is defined twice: by {_full_name(known)} and by {_full_name(cls)}. Rename one of them."
        )
    _events_by_name[name] = cls


def _refuse_reserved_fields(cls: type[TenantEvent]) -> None:
    for name in ("event_name", "category", "durable"):
        if name in cls.model_fields:
            raise TypeError(
                f"{_full_name(cls)}: a field cannot be called {name!r}, which describes the event itself. Give the "
                f"field another name and keep it on the wire with Field(alias={to_camel(name)!r})."
            )


def _refuse_unnamed_variant(cls: type[TenantEvent]) -> None:
    event = getattr(cls, "event_name", None)
    if event is not None:
        raise TypeError(f"{_full_name(cls)} extends the event {event!r}: give it a name of its own with event='...'")


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def sensitive_fields(model: type[BaseModel], *, by_alias: bool = False) -> frozenset[str]:
    """Names of the fields that hold personal data, as in Python, or as on the wire with `by_alias`.

    A field counts as well when a model nested in it has such fields.
    """
    return _sensitive_fields(model, by_alias)


@cache
def _sensitive_fields(model: type[BaseModel], by_alias: bool) -> frozenset[str]:
    marked = marked_fields(model)
    return frozenset(
        (field.alias or name) if by_alias else name
        for name, field in model.model_fields.items()
        if name in marked or _nests_sensitive(field.annotation)
    )


@cache
def marked_fields(model: type[BaseModel]) -> frozenset[str]:
    """Names of the fields that are marked as personal data themselves, not only something in a model nested in them."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if any(isinstance(mark, Sensitive) for mark in field.metadata) or _holds_sensitive(field.annotation)
    )


def _holds_sensitive(annotation: Any) -> bool:
    return isinstance(annotation, Sensitive) or any(_holds_sensitive(part) for part in _parts(annotation))


def _nests_sensitive(annotation: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """seen: the models that it is in, since a model may have itself in it."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return any(_nests_sensitive(part, seen) for part in _parts(annotation))
    if annotation in seen:
        return False
    around = seen | {annotation}
    return bool(marked_fields(annotation)) or any(
        _nests_sensitive(field.annotation, around) for field in annotation.model_fields.values()
    )


def _parts(annotation: Any) -> tuple[Any, ...]:
    """What an annotation is made of: the arguments of a generic type or a union, and the marks of Annotated."""
    return (*get_args(annotation), *getattr(annotation, "__metadata__", ()))


def searchable_fields(model: type[BaseModel], *, by_alias: bool = False) -> tuple[str, ...]:
    """Names of the fields that the dashboard searches and shows, in the model's order. None of them is sensitive.

    Only the event's own fields count, not those of models nested in it.
    """
    return _searchable_fields(model, by_alias)


@cache
def _searchable_fields(model: type[BaseModel], by_alias: bool) -> tuple[str, ...]:
    hidden = sensitive_fields(model)
    return tuple(
        (field.alias or name) if by_alias else name
        for name, field in model.model_fields.items()
        if name not in hidden
        and (any(isinstance(mark, Searchable) for mark in field.metadata) or _holds_searchable(field.annotation))
    )


def _holds_searchable(annotation: Any) -> bool:
    return isinstance(annotation, Searchable) or any(_holds_searchable(part) for part in _parts(annotation))
