"""A form made of an event's model: what it shows, what it makes of what was typed, and what it says is wrong."""

import json
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field

from cgk_tasks.dashboard.event_form import FormError, controls_of, event_from, fits, read, texts_of
from cgk_tasks.dashboard.form_fields import fields_of, flat
from cgk_tasks.errors import InvalidTenantError
from cgk_tasks.events.base import EVENTS_BY_NAME, TenantEvent, WireModel
from cgk_tasks.events.fields import JsonObject, Money, Sensitive, Timestamp
from cgk_tasks.events.redaction import REDACTED, redacted
from cgk_tasks.events.registry import all_events, get_event


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Country(WireModel):
    code: str
    region: str | None = None


class Address(WireModel):
    """Where somebody lives."""

    street: Annotated[str, Sensitive()]
    zip_code: str | None = None
    country: Country | None = None


class Placed(TenantEvent, event="form.placed"):
    """An order with everything that a field can be."""

    order_id: str
    amount: Money
    weight: Decimal | None = None
    count: Annotated[int, Field(ge=1, lt=100, title="How many")] = 1
    is_gift: bool = False
    confirmed: bool | None = None
    size: Size = Size.SMALL
    carrier: Literal["post", "courier", 3] | None = None
    reviewed_by: str | None
    placed_at: Timestamp
    due: date | None = None
    tags: list[str] = Field(default=[], max_length=3)
    numbers: list[int] = []
    address: Address | None = None
    notes: list[Address] = []
    extra: JsonObject = {}
    password: Annotated[str, Sensitive()] | None = None


class Node(WireModel):
    name: str
    inner: "Node | None" = None


class Deep(TenantEvent, event="form.deep"):
    node: Node


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_registered():
    yield
    from cgk_tasks.events import base

    for name in [name for name in EVENTS_BY_NAME if name.startswith("form.")]:
        del base._events_by_name[name]


FIELDS = fields_of(Placed)
BY_LABEL = {field.label: field for field in flat(FIELDS)}
LEAST = {"f.orderId": "o-1", "f.amount": "59.97", "f.placedAt": "2026-01-31T09:00"}


def made(**texts):
    """The wire form of the event that a form makes, where it has at least what is required."""
    typed = {**LEAST, **{f"f.{name.replace('__', '.')}": text for name, text in texts.items()}}
    return event_from(Placed, read(FIELDS, typed), "acme").to_wire()


def problems(texts):
    with pytest.raises(FormError) as caught:
        event_from(Placed, read(FIELDS, texts), "acme")
    return caught.value.at


@pytest.mark.parametrize(
    ("label", "kind", "type_name"),
    [
        ("orderId", "text", "text"), ("amount", "number", "number"), ("weight", "decimal", "decimal number"),
        ("count", "integer", "whole number"), ("isGift", "choice", "yes or no"),
        ("size", "choice", 'one of "small", "large"'), ("carrier", "choice", 'one of "post", "courier", 3'),
        ("placedAt", "datetime", "time"), ("due", "date", "date"), ("tags", "list", "list of text"),
        ("numbers", "list", "list of whole number"), ("address", "object", "object"),
        ("address.country.code", "text", "text"), ("notes", "json", "JSON"), ("extra", "json", "JSON"),
    ],
)  # fmt: skip
def test_each_field_has_a_kind_of_its_type(label, kind, type_name):
    assert (BY_LABEL[label].kind, BY_LABEL[label].type_name) == (kind, type_name)


def test_required_fields_are_those_without_a_default():
    required = {field.label for field in FIELDS if field.is_required}
    assert required == {"orderId", "amount", "reviewedBy", "placedAt"}


def test_the_tenant_is_no_field_of_the_form():
    assert "tenantId" not in BY_LABEL


def test_constraints_titles_and_defaults_are_those_of_the_model():
    count = BY_LABEL["count"]
    assert (count.title, count.rules, count.default) == ("How many", ("at least 1", "less than 100"), "1")
    assert BY_LABEL["orderId"].title == ""  # made of the name, it says nothing more


def test_personal_fields_are_marked_also_in_objects_and_in_what_is_json():
    personal = {label for label, field in BY_LABEL.items() if field.is_personal}
    assert personal == {"address.street", "notes", "password"}


def test_an_object_that_has_itself_in_it_ends_as_json():
    kinds = [field.kind for field in flat(fields_of(Deep))]
    assert kinds == ["object", "text", "object", "text", "object", "text", "json"]


def test_a_model_that_no_schema_describes_has_no_form():
    class Odd(TenantEvent):
        value: Annotated[Any, BeforeValidator(lambda value: value)] = object()
        function: type = int

    assert fields_of(Odd) is None
    assert not fits(Odd, {})


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"amount": "5"}, {"amount": 5.0}),
        ({"amount": "1e3"}, {"amount": 1000.0}),
        ({"weight": "12.30"}, {"weight": "12.30"}),
        ({"count": "7"}, {"count": 7}),
        ({"isGift": "true"}, {"isGift": True}),
        ({"confirmed": "false"}, {"confirmed": False}),
        ({"size": '"large"'}, {"size": "large"}),
        ({"carrier": "3"}, {"carrier": 3}),
        ({"due": "2026-02-03"}, {"due": "2026-02-03"}),
        ({"placedAt": "2026-01-31T09:00"}, {"placedAt": "2026-01-31T09:00:00Z"}),
        ({"placedAt": "2026-01-31T09:00:30+02:00"}, {"placedAt": "2026-01-31T09:00:30+02:00"}),
        ({"tags": "a\r\n\r\n b "}, {"tags": ["a", "b"]}),
        ({"tags": '["a", ""]'}, {"tags": ["a", ""]}),
        ({"numbers": "1\n2"}, {"numbers": [1, 2]}),
        (
            {"address__street": "High St", "address__country__code": "FR"},
            {"address": {"street": "High St", "country": {"code": "FR"}}},
        ),
        ({"notes": '[{"street": "s"}]'}, {"notes": [{"street": "s"}]}),
        ({"extra": '{"a": [1, null]}'}, {"extra": {"a": [1, None]}}),
        ({"reviewedBy": "Ada"}, {"reviewedBy": "Ada"}),
        ({"orderId": " o 1 "}, {"orderId": " o 1 "}),
    ],
)
def test_what_is_typed_becomes_a_value_of_the_field(typed, expected):
    wire = made(**typed)
    assert {name: wire[name] for name in expected} == expected


def test_what_is_empty_is_left_out_and_a_required_one_that_may_be_null_is_null():
    wire = made(weight="", tags=" ", address__street="", reviewedBy="")
    assert wire["reviewedBy"] is None
    assert "weight" not in wire
    assert "address" not in wire
    assert wire["tags"] == []  # its default


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("f.orderId", "", "is missing"),
        ("f.amount", "a lot", "must be a number"),
        ("f.amount", "12345678901234567.89", "at most 15 digits"),
        ("f.amount", "1e999", "must be a number"),
        ("f.count", "100", "must be less than 100"),
        ("f.count", "1.5", "must be a valid integer"),
        ("f.weight", "heavy", "must be a valid decimal"),
        ("f.carrier", '"pigeon"', "must be 'post', 'courier' or 3"),
        ("f.placedAt", "tomorrow", "must be a datetime"),
        ("f.due", "31.1.2026", "must be a valid date"),
        ("f.tags", "a\nb\nc\nd", "at most 3 items"),
        ("f.numbers", "1\nx", "item 2 must be a valid integer"),
        ("f.extra", "{", "is not JSON"),
        ("f.extra", '{"a": NaN}', "NaN is no number of JSON"),
        ("f.notes", '[{"street": "s"}, {"zipCode": "8"}]', "item 2.street is missing"),
        ("f.notes", '[{"street": "s", "town": "t"}]', "item 1.town is no field of it"),
        ("f.address.zipCode", "8001", ""),
    ],
)
def test_what_is_wrong_is_said_at_its_own_field(name, text, said):
    found = problems({**LEAST, name: text})
    at = "f.address.street" if name == "f.address.zipCode" else name
    assert set(found) == {at}
    assert said in " ".join(found[at])


def test_all_problems_are_said_at_once_those_of_texts_that_cannot_be_read_too():
    assert set(problems({"f.amount": "x", "f.extra": "{", "f.placedAt": "2026-01-31T09:00"})) == {
        "f.orderId", "f.amount", "f.extra",
    }  # fmt: skip


def test_a_tenant_that_is_none_is_no_problem_of_a_field():
    with pytest.raises(InvalidTenantError):
        event_from(Placed, read(FIELDS, LEAST), "Not A Tenant")


def test_what_was_typed_stays_in_the_controls():
    typed = {"f.amount": "a lot", "f.placedAt": "tomorrow", "f.size": '"huge"', "f.extra": "{"}
    said = {one.field.label: one.text for one in controls_of(FIELDS, typed, problems({**LEAST, **typed}))}
    assert {said[label] for label in ("amount", "placedAt", "size", "extra")} == set(typed.values())


def test_a_choice_that_is_none_stays_chosen():
    (size,) = [one for one in controls_of(FIELDS, {"f.size": '"huge"'}) if one.field.label == "size"]
    assert [option.text for option in size.options if option.is_chosen] == ['"huge"']


@pytest.mark.parametrize(
    ("label", "text", "control", "type_"),
    [
        ("orderId", "o-1", "input", "text"),
        ("orderId", "two\nlines", "area", "text"),
        ("orderId", "x" * 200, "area", "text"),
        ("placedAt", "", "input", "datetime-local"),
        ("placedAt", "2026-01-31T09:00:00", "input", "datetime-local"),
        ("placedAt", "2026-01-31T09:00:00+02:00", "input", "text"),
        ("due", "", "input", "date"),
        ("extra", "", "area", "text"),
        ("extra", REDACTED, "input", "text"),
        ("placedAt", REDACTED, "input", "text"),
        ("isGift", "", "select", "text"),
    ],
)
def test_the_control_can_show_its_text(label, text, control, type_):
    (one,) = [
        one for one in controls_of(FIELDS, {f"f.{label}": text}) if one.field.label == label and one.control != "close"
    ]
    assert (one.control, one.type, one.text) == (control, type_, text)


WIRE = Placed(
    tenant_id="acme", order_id="o-1", amount=59.97, weight=Decimal("1.50"), reviewed_by=None, carrier=3, tags=["a"],
    placed_at=datetime.fromisoformat("2026-01-31T09:00:00.123456+02:00"), extra={"a": {"b": 1.5}}, password="hunter2",
    address=Address(street="Two\r\nlines", country=Country(code="FR")), notes=[Address(street="s")],
).to_wire()  # fmt: skip


def test_a_form_that_is_left_alone_makes_the_payload_that_it_showed():
    again = read(FIELDS, texts_of(FIELDS, WIRE), WIRE).payload
    assert again == {name: value for name, value in WIRE.items() if name != "tenantId"}


def test_hidden_values_are_not_in_the_form_and_stay_as_they_are():
    texts = texts_of(FIELDS, redacted("form.placed", WIRE))
    assert "hunter2" not in json.dumps(texts)
    assert "lines" not in json.dumps(texts)
    again = read(FIELDS, {**texts, "f.orderId": "o-2"}, WIRE).payload
    assert (again["password"], again["address"], again["orderId"]) == ("hunter2", WIRE["address"], "o-2")


def test_a_hidden_value_can_be_replaced_and_removed():
    texts = texts_of(FIELDS, redacted("form.placed", WIRE))
    again = read(FIELDS, {**texts, "f.password": "new", "f.address": ""}, WIRE).payload
    assert again["password"] == "new"
    assert "address" not in again


def test_a_value_that_is_emptied_is_left_out():
    texts = texts_of(FIELDS, WIRE)
    again = read(FIELDS, {**texts, "f.weight": "", "f.tags": ""}, WIRE).payload
    assert not {"weight", "tags"} & again.keys()


def test_a_payload_with_fields_that_the_event_has_no_more_fits_no_form():
    assert fits(Placed, WIRE)
    assert not fits(Placed, {**WIRE, "coupon": "x"})
    assert not fits(Placed, [WIRE])


def test_an_object_with_unknown_fields_is_shown_as_json():
    payload = {**WIRE, "address": {"street": "s", "floor": 3}}
    texts = texts_of(FIELDS, payload)
    assert json.loads(texts["f.address"]) == {"street": "s", "floor": 3}
    assert read(FIELDS, texts, payload).payload["address"] == {"street": "s", "floor": 3}


def test_every_event_of_the_catalog_has_a_form():
    assert [event.event_name for event in all_events() if fields_of(event) is None] == []


START = datetime.fromisoformat("2020-01-01T00:00:00+02:00")
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
ADDRESSES = st.builds(
    Address,
    street=TEXT,
    zip_code=st.none() | TEXT,
    country=st.none() | st.builds(Country, code=TEXT, region=st.none() | TEXT),
)
PLACED = st.fixed_dictionaries(
    {
        "tenant_id": st.just("acme"),
        "order_id": TEXT | st.just("") | st.just("a\r\nb"),
        "amount": st.decimals(-(10**9), 10**9, places=2),
        "weight": st.none() | st.decimals(0, 1000, places=3),
        "count": st.integers(1, 99),
        "is_gift": st.booleans(),
        "confirmed": st.none() | st.booleans(),
        "size": st.sampled_from(Size),
        "carrier": st.sampled_from([None, "post", "courier", 3]),
        "reviewed_by": st.none() | TEXT,
        "placed_at": st.integers(0, 10**14).map(lambda after: START + timedelta(microseconds=after)),
        "due": st.none() | st.dates(),
        "tags": st.lists(TEXT, max_size=3),
        "numbers": st.lists(st.integers(), max_size=3),
        "address": st.none() | ADDRESSES,
        "notes": st.lists(ADDRESSES, max_size=2),
        "extra": st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT, max_size=3),
        "password": st.none() | TEXT,
    }
).map(lambda values: Placed(**values))


@settings(max_examples=60, deadline=None)
@given(PLACED)
def test_any_event_goes_through_a_form_unchanged(event):
    wire = event.to_wire()
    assert event_from(Placed, read(FIELDS, texts_of(FIELDS, wire), wire), "acme").to_wire() == wire


@settings(max_examples=60, deadline=None)
@given(PLACED)
def test_any_event_goes_through_a_form_that_hides_unchanged(event):
    wire = event.to_wire()
    texts = texts_of(FIELDS, redacted("form.placed", wire))
    assert event_from(Placed, read(FIELDS, texts, wire), "acme").to_wire() == wire


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from([field.name for field in flat(FIELDS)]), st.text(max_size=20)))
def test_whatever_is_typed_becomes_an_event_or_problems_at_controls_of_the_form(texts):
    with suppress(FormError):
        assert event_from(Placed, read(FIELDS, texts), "acme").tenant_id == "acme"
        return
    found = problems(texts)
    assert set(found) <= {one.field.name for one in controls_of(FIELDS, texts, found)}
    assert all(found.values())


def test_the_form_of_an_order_makes_an_order():
    event = get_event("order.created")
    fields = fields_of(event)
    order = event_from(event, read(fields, {"f.orderId": "o-1", "f.totalAmount": "59.97"}), "acme")
    assert order.to_wire() == {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}
