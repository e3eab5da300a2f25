"""Idempotency keys: readable, unmistakable, and back into their parts; and the storage in memory."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.errors import CgkTasksError
from cgk_tasks.jobs.idempotency import (
    IdempotencyKey,
    IdempotencyKeyError,
    MemoryStorage,
    generate_idempotency_key,
    idempotency_key,
    parse_idempotency_key,
)

any_text = st.text(st.characters(), min_size=1)
parts = st.tuples(any_text, any_text, any_text, st.none() | st.text())


def test_a_key_of_plain_parts_is_readable():
    assert idempotency_key("acme", "payout", "p-7") == "acme:payout:p-7"
    assert idempotency_key("acme", "payout", "p-7", "2026-01-31") == "acme:payout:p-7:2026-01-31"


@given(parts)
def test_every_text_comes_back_as_it_was(given_parts):
    assert parse_idempotency_key(idempotency_key(*given_parts)) == IdempotencyKey(*given_parts)


@given(parts, parts)
def test_different_parts_never_make_the_same_key(one, other):
    assert (idempotency_key(*one) == idempotency_key(*other)) == (one == other)


def test_a_separator_inside_a_part_does_not_move_it_into_the_next():
    assert idempotency_key("acme", "a:b", "c") != idempotency_key("acme", "a", "b:c")


def test_no_extra_and_an_empty_extra_are_told_apart():
    assert parse_idempotency_key(idempotency_key("acme", "pay", "1", "")).extra == ""
    assert parse_idempotency_key(idempotency_key("acme", "pay", "1")).extra is None


@pytest.mark.parametrize("bad", [("", "pay", "1"), ("acme", "", "1"), ("acme", "pay", ""), ("acme", "pay", 1)])
def test_a_missing_part_is_refused(bad):
    with pytest.raises(IdempotencyKeyError, match="non-empty text"):
        idempotency_key(*bad)


@pytest.mark.parametrize("bad", ["", "acme", "acme:pay", "a:b:c:d:e", "acme::1", "acme:pay:%ff", "acme:pay:a b", None])
def test_what_is_no_key_is_refused_with_an_error_that_names_it(bad):
    with pytest.raises(IdempotencyKeyError, match="is no idempotency key") as caught:
        parse_idempotency_key(bad)
    assert repr(bad) in str(caught.value)


@given(st.text())
def test_any_text_is_either_a_key_or_refused(text):
    with contextlib.suppress(IdempotencyKeyError):
        assert idempotency_key(*parse_idempotency_key(text)) == text


def test_the_error_can_be_caught_as_a_value_error_and_as_one_of_ours():
    assert issubclass(IdempotencyKeyError, ValueError)
    assert issubclass(IdempotencyKeyError, CgkTasksError)


def test_the_known_name_is_the_same_function():
    assert generate_idempotency_key is idempotency_key


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_memory_storage_forgets_a_value_when_its_time_is_over():
    clock = Clock()
    storage = MemoryStorage(clock)
    storage.set("a", "1", seconds=10)
    assert storage.get("a") == "1"
    clock.now += 10
    assert storage.get("a") is None


def test_memory_storage_does_not_grow_with_values_whose_time_is_over():
    clock = Clock()
    storage = MemoryStorage(clock)
    for number in range(1000):
        storage.set(str(number), "1", seconds=10)
    clock.now += 3600
    storage.set("last", "1", seconds=10)
    assert len(storage._entries) == 1
