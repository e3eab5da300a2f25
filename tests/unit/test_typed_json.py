"""The types of a plain task's arguments and result: kept as Celery's JSON keeps them."""

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json
from pydantic import BaseModel

from cgk_tasks.errors import PermanentError
from cgk_tasks.events.redaction import Redaction
from cgk_tasks.events.typed_values import unwrapped
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.codec import decode, encode

ID = UUID("12345678-1234-5678-1234-567812345678")
zones = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text()
    | st.datetimes(timezones=zones) | st.dates() | st.times() | st.decimals(allow_nan=False) | st.uuids() | st.binary()
)  # fmt: skip
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


class Model(BaseModel):
    at: datetime


def back(value):
    return typed_json.read(encode(value, keep_types=True))


def as_shown(value):
    return unwrapped(decode(encode(value, keep_types=True)))


@given(values)
def test_what_is_read_is_what_was_written(value):
    assert back(value) == value


@given(values)
def test_what_is_read_is_what_celery_gives(value):
    given_by_celery = kombu_json.loads(kombu_json.dumps(value))
    assert repr(back(value)) == repr(given_by_celery)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinity_stays_a_number(value):
    assert back([value]) == [value]


def test_what_is_no_number_stays_a_float():
    assert math.isnan(back({"x": math.nan})["x"])


@pytest.mark.parametrize("key", [None, True, False, 1, 1.5, -0.5])
def test_a_key_that_is_no_text_is_the_one_that_celery_makes_of_it(key):
    assert back({key: 1}) == kombu_json.loads(kombu_json.dumps({key: 1}))


def test_a_tuple_is_a_list_and_a_key_a_text_as_in_celery():
    assert back(((1, 2), {1: ID})) == [[1, 2], {"1": ID}]


def test_what_celery_does_not_take_is_written_as_plain_json():
    assert back([Model(at=datetime(2026, 3, 1, tzinfo=UTC)), {7}]) == [{"at": "2026-03-01T00:00:00Z"}, [7]]


@pytest.mark.parametrize("text", ['["2026-03-01T09:30:00", "59.970"]', '{"args": [1], "kwargs": {}}', "null"])
def test_what_was_written_without_types_is_read_as_it_is(text):
    assert typed_json.read(text) == decode(text)


@pytest.mark.parametrize(
    "data",
    [
        {"__type__": "parcel", "__value__": 1}, {"__type__": "datetime", "__value__": "soon"},
        {"__type__": 1, "__value__": 1}, {"__type__": [], "__value__": {}}, {"__type__": "datetime"},
    ],
)  # fmt: skip
def test_what_only_looks_like_a_type_stays_as_it_is(data):
    assert back(data) == data


def test_a_value_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(PermanentError, match="cannot be stored as JSON"):
        encode(endless, keep_types=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 3, 1, 9, 30, tzinfo=UTC), "2026-03-01T09:30:00+00:00"), (date(2026, 3, 1), "2026-03-01"),
        (time(9, 30), "09:30:00"), (Decimal("59.970"), "59.970"), (ID, str(ID)), (b"abc", "abc"), (b"\xff", "/w=="),
        (math.nan, "nan"), ({"a": [ID]}, {"a": [str(ID)]}),
    ],
)  # fmt: skip
def test_people_are_shown_the_value_and_not_how_it_is_stored(value, text):
    assert as_shown(value) == text


def test_texts_that_quote_an_argument_are_redacted_and_the_names_of_types_are_not():
    payload = decode(encode({"args": [ID, datetime(2026, 3, 1)], "kwargs": {}}, keep_types=True))  # noqa: DTZ001
    text = Redaction("shop.nothing-known", payload).text(f"no datetime for uuid {ID}")
    assert text == "no datetime for uuid [redacted]"
