"""Runs that are made of another one: as `_replace` makes them."""

from datetime import UTC, datetime

import pytest

from cgk_tasks.runs.models import NewRun, Place

NOON = datetime(2031, 6, 1, 12, 0, tzinfo=UTC)
VALUES = {name: f"{name} of the first" for name in NewRun._fields}
FIRST = NewRun(**VALUES)


def test_a_run_like_another_has_an_id_payload_search_fields_and_place_of_its_own():
    place = Place(7, NOON)
    made = FIRST.like_this("id", "{}", "order=1", place)
    assert made == FIRST._replace(id="id", payload="{}", search_fields="order=1", place=place)


def test_a_run_that_is_held_has_a_place_and_else_what_it_had():
    place = Place(7, NOON)
    assert FIRST.held_at(place) == FIRST._replace(state="held", place=place)


def test_a_run_of_which_nothing_is_said_is_plain():
    assert NewRun("id", "acme", "order.created", "{}", "cgk", 9, search_fields="order=1").is_plain


SAID = {name: value for name, value in VALUES.items() if name not in {"id", "tenant_id", "event", "payload", "queue"}}


@pytest.mark.parametrize("name", SAID.keys() - {"priority", "search_fields"})
def test_a_run_of_which_anything_else_is_said_is_not_plain(name):
    assert not NewRun("id", "acme", "order.created", "{}", "cgk", **{name: SAID[name]}).is_plain


def test_both_leave_the_first_as_it_was():
    FIRST.like_this("id", "{}", None)
    FIRST.held_at(Place(7, NOON))
    assert NewRun(**VALUES) == FIRST
