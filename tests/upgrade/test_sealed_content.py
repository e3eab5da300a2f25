"""The content of runs from before migration 0013: converted in batches, kept alike for both releases, and finished."""

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from cgk_tasks import migrations
from cgk_tasks.errors import StoreError
from cgk_tasks.migrations import apply, conversion
from cgk_tasks.runs import logs, store
from cgk_tasks.runs.plain_columns import error_fingerprint
from cgk_tasks.schedules import tenant_schedules

pytestmark = pytest.mark.slow

OLD, BOTH, NEW = "0012", "0013", "0014"
NEWEST = max(path.name[:4] for path in (Path(migrations.__file__).parent / "versions").glob("0*.py"))
ERRORS = [
    {
        "attempt": n,
        "code": f"E{n}",
        "type": "ValueError",
        "message": f"no order o-{n}",
        "at": "2026-01-01T00:00:00+00:00",
    }
    for n in (1, 2)
]
PAYLOAD = '{"tenantId": "acme", "orderId": "o-ß1"}'

OLD_RUN = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, payload, run_at, canvas, cursor, errors, put_off)
VALUES (%(id)s, 'acme', 'order.created', 'retrying', 'q', 5, %(payload)s, now(), '{"link": []}', '"page-2"', %(errors)s,
        '{"code": "RETRY_LATER", "reason": "night"}')
"""
OLD_CLOSED = """
INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, payload, run_at, errors, result, error_code)
VALUES (%(id)s, 'acme', 'order.created', %(state)s, 'q', 5, %(payload)s, now(), %(errors)s, '{"a": [1]}', 'E2')
"""
OLD_LOG = """
INSERT INTO cgk.run_logs (run_id, tenant_id, attempt, size, lines) VALUES (%(id)s, 'acme', 1, 2,
    '[{"at": "2026-01-01T00:00:00+00:00", "level": "info", "logger": "shop", "message": "done"}]')
"""
OLD_SCHEDULE = """
INSERT INTO cgk.tenant_schedules (id, tenant_id, event, payload, cron, timezone, misfire, overlap, max_age, done_until,
                                  next_at)
VALUES (%(id)s, 'acme', 'order.created', %(payload)s, '0 7 * * *', 'UTC', 'once', 'skip', 86400, now(), now())
"""
OLD_MEMBER = (
    "INSERT INTO cgk.group_members (group_id, run_id, result, error) VALUES ('g', %(id)s, %(result)s, %(error)s)"
)


@pytest.fixture
def connection(database):
    """At the revision before, with a tenant and a group."""
    migrations.migrate(OLD)
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("INSERT INTO cgk.tenants (id, isolation, schema_name) VALUES ('acme', 'search_path', 't')")
        connection.execute("INSERT INTO cgk.groups (id) VALUES ('g')")
        yield connection


def add(connection, statement, **values):
    run_id = str(uuid.uuid4())
    given = {"id": run_id, "payload": PAYLOAD, "errors": json.dumps(ERRORS), "state": "failed", **values}
    connection.execute(statement, given)
    return run_id


def row(connection, table, run_id, key="id"):
    return connection.execute(f"SELECT * FROM cgk.{table} WHERE {key} = %s", [run_id]).fetchone()


@pytest.fixture
def old_rows(connection):
    """Some of every kind: more than a batch."""
    return {
        "open": [add(connection, OLD_RUN) for _ in range(7)],
        "closed": [add(connection, OLD_CLOSED) for _ in range(7)],
        "logs": [add(connection, OLD_LOG) for _ in range(3)],
        "schedules": [add(connection, OLD_SCHEDULE) for _ in range(3)],
        "good": add(connection, OLD_MEMBER, result='{"x": 1}', error=None),
        "bad": add(connection, OLD_MEMBER, result=None, error="it raised"),
    }


@pytest.fixture
def converted(connection, old_rows, monkeypatch):
    monkeypatch.setattr(conversion, "BATCH", 2)
    reported = []
    migrations.migrate(report=lambda table, rows: reported.append((table, rows)))
    assert migrations.current() == BOTH
    return {**old_rows, "reported": reported}


def test_rows_are_converted_in_batches_and_progress_is_told(converted):
    assert [rows for table, rows in converted["reported"] if table == "runs"] == [2, 4, 6, 7]


def test_an_open_run_from_before_is_read_whole(converted):
    for run_id in converted["open"]:
        run = store.get(run_id)
        assert (run.payload, run.errors) == (json.loads(PAYLOAD), ERRORS)


def test_the_plain_columns_of_an_open_run_from_before_are_there(connection, converted):
    found = row(connection, "runs", converted["open"][0])
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert (found["last_error_code"], found["first_failed_at"], found["search_fields"]) == ("E2", at, "orderId=o-ß1")
    assert json.loads(found["sealed_deferral"])["reason"] == "night"
    assert (found["sealed_cursor"], json.loads(found["sealed_canvas"])) == (b'"page-2"', {"link": []})


def test_a_closed_run_from_before_is_read_whole(connection, converted):
    run = store.get(converted["closed"][3])
    assert (run.result, run.errors, run.error_code) == ({"a": [1]}, ERRORS, "E2")
    found = row(connection, "run_history", run.id)
    assert (found["error_fingerprint"], found["search_fields"]) == (
        error_fingerprint("E2", ERRORS[-1]),
        "orderId=o-ß1",
    )


def test_lines_schedules_and_members_from_before_are_there(connection, converted):
    assert [line.message for line in logs.lines(converted["logs"][0])] == ["done"]
    assert tenant_schedules.get_schedule(converted["schedules"][0]).payload == json.loads(PAYLOAD)
    good, bad = (row(connection, "group_members", converted[name], "run_id") for name in ("good", "bad"))
    assert (json.loads(good["sealed_result"]), bad["sealed_error"]) == ({"x": 1}, b"it raised")


def test_an_interrupted_conversion_goes_on_where_it_ended(connection, old_rows, monkeypatch):
    monkeypatch.setattr(conversion, "BATCH", 2)

    class Interrupted(Exception):
        pass

    def interrupt(table, rows):
        if (table, rows) == ("run_history", 4):
            raise Interrupted

    with pytest.raises(Interrupted):
        migrations.migrate(report=interrupt)
    assert not conversion.is_complete()
    reported = []
    migrations.migrate(report=lambda table, rows: reported.append((table, rows)))
    assert conversion.is_complete()
    assert [rows for table, rows in reported if table == "run_history"] == [2, 3]


def test_a_run_that_is_claimed_before_it_is_converted_is_read_whole(connection, old_rows, monkeypatch):
    monkeypatch.setattr(conversion, "convert", lambda _report=None: 0)
    migrations.migrate(BOTH)
    run_id = old_rows["open"][0]
    connection.execute("UPDATE cgk.runs SET state = 'pending' WHERE id = %s", [run_id])
    (claimed,) = store.claim([run_id], str(uuid.uuid4()), 1)
    assert (claimed.payload, claimed.cursor, claimed.first_failed_at.year) == (PAYLOAD, '"page-2"', 2026)


# Both releases at work

OLD_CHANGE = "UPDATE cgk.runs SET errors = errors || %s::jsonb, cursor = '\"page-3\"', put_off = NULL WHERE id = %s"
NEW_CHANGE = (
    "UPDATE cgk.runs SET sealed_errors = sealed_errors || %s::bytea, sealed_cursor = '\"page-4\"' WHERE id = %s"
)


def test_what_an_older_worker_changes_is_seen_by_a_newer_one(connection, converted):
    run_id = converted["open"][0]
    connection.execute(OLD_CHANGE, [json.dumps([{"code": "E3"}]), run_id])
    found = row(connection, "runs", run_id)
    assert ([error["code"] for error in store.get(run_id).errors], found["last_error_code"]) == (
        ["E1", "E2", "E3"],
        "E3",
    )
    assert (found["sealed_cursor"], found["sealed_deferral"]) == (b'"page-3"', None)


def test_what_a_newer_worker_changes_is_seen_by_an_older_one(connection, converted):
    run_id = converted["open"][0]
    connection.execute(NEW_CHANGE, [b'{"code": "E3"}', run_id])
    found = row(connection, "runs", run_id)
    assert ([error["code"] for error in found["errors"]], found["cursor"]) == (["E1", "E2", "E3"], "page-4")


def test_what_an_older_process_inserts_is_seen_by_a_newer_one(connection, converted):
    assert store.get(add(connection, OLD_RUN)).payload == json.loads(PAYLOAD)
    assert store.get(add(connection, OLD_CLOSED)).errors == ERRORS
    assert [line.message for line in logs.lines(add(connection, OLD_LOG))] == ["done"]


def test_older_and_newer_processes_put_an_error_into_the_same_group(connection, converted):
    found = row(connection, "run_history", add(connection, OLD_CLOSED))
    assert found["error_fingerprint"] == error_fingerprint("E2", ERRORS[-1])


# The end

OLD_WORKER = "INSERT INTO cgk.workers (id, name, pid, queues) VALUES (gen_random_uuid(), 'old@here', 1, '{q}')"


TRIGGERS = """
SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
 WHERE NOT tgisinternal AND relnamespace = 'cgk'::regnamespace
"""


def settle(connection):
    """As if the older processes had been gone for long."""
    connection.execute("SELECT setval('cgk.written_in_old_form', 1)")


def test_the_finish_is_refused_while_an_older_worker_lives(connection, converted):
    connection.execute(OLD_WORKER)
    with pytest.raises(StoreError, match="Workers of an earlier release are alive: old@here"):
        migrations.finish()
    assert migrations.current() == BOTH


def test_the_finish_is_refused_after_a_write_of_an_older_sender(connection, converted, setting):
    setting(CGK_WORKER_TIMEOUT_SECONDS="600")
    add(connection, OLD_RUN)
    with pytest.raises(StoreError, match=r"an earlier release has written to this database \d+ s ago"):
        migrations.finish()
    assert migrations.current() == BOTH


def test_the_finish_leaves_all_content_and_no_trigger(connection, converted):
    late = add(connection, OLD_RUN)
    settle(connection)
    assert migrations.finish() == NEWEST
    assert [store.get(one).payload for one in (*converted["open"], *converted["closed"], late)] == [
        json.loads(PAYLOAD)
    ] * 15
    assert row(connection, "runs", late)["search_fields"] == "orderId=o-ß1"
    assert "payload" not in row(connection, "runs", late)
    assert connection.execute(TRIGGERS).fetchall() == []


def test_a_finish_that_is_repeated_changes_nothing(connection, converted):
    settle(connection)
    assert [migrations.finish(), migrations.finish(), migrations.migrate()] == [NEWEST] * 3


def test_a_database_that_nothing_was_sent_through_is_finished_at_once(database):
    assert migrations.migrate() == NEWEST
    assert apply.is_usable(NEW)


def test_a_database_that_is_in_use_keeps_what_the_older_release_needs(connection, old_rows):
    assert migrations.migrate() == BOTH
    assert apply.is_usable(BOTH)
    assert conversion.is_complete()
