"""Many runs come into the record by COPY, in rows that are written here: column by column as an INSERT has them."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from cgk_tasks.runs import insertion
from cgk_tasks.runs.models import NewRun, Place, new_run_id
from cgk_tasks.sql.postgres import autocommit, fetch

pytestmark = pytest.mark.usefixtures("database")

NOON = datetime(2031, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
SHAPES = {
    "with nothing but a payload": {},
    "that are due later": {"state": "scheduled", "run_at": NOON},
    "that were due before 2000": {"state": "scheduled", "run_at": datetime(1999, 12, 31, 23, 59, 59, 1, tzinfo=UTC)},
    "of a suspended tenant": {"state": "held"},
    "in a lane": {"state": "held", "place": Place(7, NOON)},
    "with everything": {
        "job": "behave", "max_attempts": 10_000, "run_at": NOON, "expires_at": NOON + timedelta(days=1), "priority": 9,
        "idempotency_key": "schlüssel", "parent_id": new_run_id(), "replay_of": new_run_id(), "canvas": '{"k": "ä"}',
        "scheduled_for": NOON, "trace": f"00-{1:032x}-{2:016x}-01", "search_fields": "order=ö-1\nname=",
    },
    "with a text that is not ASCII": {"payload": '{"argument":"\u2603 \U0001f600 ä"}', "queue": "straße"},
    "with nothing to search": {"search_fields": ""},
}  # fmt: skip
NOT_ALIKE = {"id", "created_at", "handed_over_at", "run_at"}
"""What follows from the id, and from when the run was inserted."""


def run(**columns):
    plain = {"id": new_run_id(), "tenant_id": "acme", "event": "test.behave", "payload": "{}", "queue": "cgk"}
    return NewRun(**plain | columns)


def row_of(one):
    with autocommit() as connection:
        (row,) = fetch(connection, "SELECT * FROM cgk.runs WHERE id = %(id)s::uuid", {"id": one.id})
    return row


def are_on_record(runs):
    with autocommit() as connection:
        values = {"ids": [one.id for one in runs]}
        return bool(fetch(connection, "SELECT id FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[])", values))


@pytest.mark.parametrize("columns", SHAPES.values(), ids=SHAPES)
def test_a_run_that_is_copied_has_the_columns_of_one_that_is_inserted(columns):
    inserted, copied = run(**columns), [run(**columns) for _ in range(30)]
    with autocommit() as connection:
        insertion.insert_one(connection, inserted)
        insertion.insert_fresh(connection, copied)
    expected = row_of(inserted)
    for one in copied:
        row = row_of(one)
        assert {name: row[name] for name in row if name not in NOT_ALIKE} == {
            name: expected[name] for name in expected if name not in NOT_ALIKE
        }
        assert row["run_at"] == columns.get("run_at", row["run_at"])
        assert (row["handed_over_at"] is None) == (expected["handed_over_at"] is None)


@pytest.mark.parametrize("columns", [*SHAPES.values(), {"priority": 0}], ids=[*SHAPES, "of a priority of their own"])
def test_a_run_that_is_flushed_later_has_the_columns_of_one_that_is_inserted(columns):
    inserted, sent = run(**columns), run(**columns)
    with autocommit() as connection:
        insertion.insert_one(connection, inserted)
        with insertion.send_unflushed(connection, sent):
            pass
    expected, found = row_of(inserted), row_of(sent)
    assert {name: found[name] for name in found if name not in NOT_ALIKE} == {
        name: expected[name] for name in expected if name not in NOT_ALIKE
    }
    for name in ("handed_over_at", "run_at"):
        assert (found[name] is None) == (expected[name] is None)


def test_a_plain_run_that_is_on_record_already_is_left_as_it_is():
    first = run()
    with autocommit() as connection:
        insertion.insert_one(connection, first)
        before = row_of(first)
        with insertion.send_unflushed(connection, first._replace(payload='{"other":1}')):
            pass
    assert row_of(first) == before


def test_runs_of_many_kinds_can_be_copied_at_once():
    runs = [run(**{"priority": number % 10} | columns) for number in range(20) for columns in SHAPES.values()]
    with autocommit() as connection:
        insertion.insert_fresh(connection, runs)
    rows = [row_of(one) for one in runs]
    found = [(row["priority"], row["state"], row["lane_id"], row["rank"], row["sealed_payload"]) for row in rows]
    assert found == [(one.priority, one.state, *(one.place or (None, None)), one.payload.encode()) for one in runs]


def test_texts_are_copied_in_the_encoding_of_the_connection():
    runs = [run(queue="straße", search_fields="ort=Köln") for _ in range(30)]
    with autocommit() as connection:
        connection.execute("SET client_encoding TO 'LATIN1'")
        try:
            insertion.insert_fresh(connection, runs)
        finally:
            connection.execute("RESET client_encoding")
    assert {(row["queue"], row["search_fields"]) for row in map(row_of, runs)} == {("straße", "ort=Köln")}


def test_an_id_that_is_none_is_an_error_and_nothing_is_copied():
    runs = [*(run() for _ in range(30)), run(id="no id")]
    with autocommit() as connection, pytest.raises(ValueError, match="fromhex"):
        insertion.insert_fresh(connection, runs)
    assert not are_on_record(runs[:-1])


def test_a_nul_in_a_text_is_refused_by_postgresql_and_nothing_is_copied():
    runs = [*(run() for _ in range(30)), run(queue="a\0b")]
    with autocommit() as connection, pytest.raises(psycopg.DataError):
        insertion.insert_fresh(connection, runs)
    assert not are_on_record(runs[:-1])
