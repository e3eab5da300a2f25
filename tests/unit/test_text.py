"""Texts as the record can hold them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.runs.text import REPLACEMENT, storable, storable_json, text_of, traceback_of

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary()
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(ANY_TEXT | st.integers(), inner),
)


def can_be_stored(text: str) -> bool:
    """Whether PostgreSQL takes it: UTF-8 without NUL."""
    return "\0" not in text and bool(text.encode("utf-8") or True)


class Mute:
    """Nothing of it can be shown."""

    def __str__(self):
        raise SystemExit("no text")

    __repr__ = __str__


class MuteError(Exception):
    __str__ = Mute.__str__
    __repr__ = Mute.__str__


@given(ANY_TEXT)
def test_any_text_can_be_stored(text):
    assert can_be_stored(storable(text))


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_a_text_that_postgresql_takes_stays_as_it_is(text):
    assert storable(text) == text


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\0b", f"a{REPLACEMENT}b"),
        ("\ud800", REPLACEMENT),
        ("\udc00\ud800", REPLACEMENT * 2),
        ("\ud83d\ude00", "\U0001f600"),
        ("\udce9t\xe9", f"{REPLACEMENT}t\xe9"),
    ],
    ids=["NUL", "half", "halves in the wrong order", "a pair is its character", "a byte of another encoding"],
)
def test_what_postgresql_refuses_is_replaced(text, stored):
    assert storable(text) == stored


@given(ANYTHING)
def test_any_data_is_written_as_json_that_can_be_stored_and_read(value):
    text = storable_json(value)
    assert can_be_stored(text)
    assert "\\u0000" not in text  # jsonb refuses it
    json.loads(text, parse_constant=pytest.fail)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), st.lists))
def test_plain_json_is_read_back_as_it_was(value):
    assert json.loads(storable_json(value)) == json.loads(json.dumps(value).replace("\\u0000", "\\ufffd"))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**5000, -(10**400), Mute(), {Mute(): Mute()}], ids=range(7)
)
def test_what_json_cannot_say_is_written_as_its_text(value):
    json.loads(storable_json(value), parse_constant=pytest.fail)


def test_data_that_contains_itself_is_written_to_a_depth():
    value: list = []
    value.append(value)
    json.loads(storable_json(value))


def test_a_text_that_cannot_be_made_says_so():
    assert text_of(Mute()) == "<Mute whose text cannot be made: SystemExit>"


def test_a_traceback_has_the_causes():
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as exc:
        text = traceback_of(exc)
    assert text.index("KeyError: 'inner'") < text.index("ValueError: outer")


def test_the_traceback_of_an_exception_without_a_text_is_made_all_the_same():
    with pytest.raises(MuteError) as caught:
        raise MuteError
    assert "test_text.py" in traceback_of(caught.value)
