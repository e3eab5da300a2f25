"""The catalog as a whole: complete, consistently named, and lossless on the wire."""

import inspect
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime
from pydantic_core import to_jsonable_python

import cgk_tasks.events
from cgk_tasks.events import (
    ALIASES,
    EVENT_CATEGORIES,
    TOTAL_EVENT_COUNT,
    JobEvent,
    JobPayload,
    TenantEvent,
    WireModel,
    class_name,
    get_event,
    parse_event,
    parse_event_json,
    task_attribute,
)

NAMES = [name for names in EVENT_CATEGORIES.values() for name in names]


# Completeness


def test_the_catalog_has_136_events_in_16_categories() -> None:
    assert (TOTAL_EVENT_COUNT, len(set(NAMES)), len(EVENT_CATEGORIES)) == (136, 136, 16)


def test_the_static_types_name_every_event_of_the_catalog() -> None:
    assert list(get_args(JobEvent)) == NAMES
    assert list(get_args(JobPayload)) == [get_event(name) for name in NAMES]


def test_the_package_exports_every_event() -> None:
    assert {get_event(name).__name__ for name in NAMES} <= set(cgk_tasks.events.__all__)


def test_every_second_spelling_leads_to_an_event_of_the_catalog() -> None:
    assert {get_event(alias).event_name for alias in ALIASES} == set(ALIASES.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_event_knows_its_name_its_category_and_its_meaning(name: str) -> None:
    event = get_event(name)
    assert event.__name__ == class_name(name)
    assert name in EVENT_CATEGORIES[event.category]
    assert (inspect.getdoc(event) or "").endswith(".")


def test_no_two_events_share_a_task_name() -> None:
    assert len({task_attribute(name) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    ("event", "model", "task"),
    [
        ("order.created", "OrderCreated", "order_created"),
        ("ab.testCreated", "AbTestCreated", "ab_test_created"),
        ("email.review_request", "EmailReviewRequest", "email_review_request"),
        ("googleFeed.sync", "GoogleFeedSync", "google_feed_sync"),
        ("creator.file.uploaded", "CreatorFileUploaded", "creator_file_uploaded"),
    ],
)
def test_names_follow_from_the_events_name(event: str, model: str, task: str) -> None:
    assert (class_name(event), task_attribute(event)) == (model, task)


# The way over the wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
CENTS = st.integers(-(10**14), 10**14)
STRATEGIES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Any: JSON,
    Decimal: CENTS.map(lambda cents: float(Decimal(cents) / 100)),
    AwareDatetime: TIMES.map(to_jsonable_python),
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a field in wire form. None is left to the caller."""
    if annotation in STRATEGIES:
        return STRATEGIES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(arguments[0])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(st.text(), values(arguments[1]), max_size=3)
    if origin is Union or isinstance(annotation, type(int | None)):
        return st.one_of([values(part) for part in arguments if part is not type(None)])
    assert issubclass(annotation, WireModel), annotation
    return payloads(annotation)


def payloads(model: type[WireModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Payloads of `model` in wire form, with and without the optional fields."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in model.model_fields.items():
        wire_name = field.alias or name
        if name == "tenant_id":
            required[wire_name] = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
        elif not field.is_required():
            optional[wire_name] = values(field.annotation)
        elif type(None) in get_args(field.annotation):
            required[wire_name] = st.none() | values(field.annotation)
        else:
            required[wire_name] = values(field.annotation)
    return st.fixed_dictionaries(required, optional=optional)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_event_comes_back_from_the_wire_unchanged(name: str, data: st.DataObject) -> None:
    wire = data.draw(payloads(get_event(name)))
    event: TenantEvent = parse_event(name, wire)
    assert event.to_wire() == wire
    assert json.loads(event.to_json()) == wire
    assert parse_event_json(name, event.to_json()) == event
