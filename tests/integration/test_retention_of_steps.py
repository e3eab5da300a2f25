"""What a run remembers is kept for as long as the run is on record, whether it is open or closed."""

from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.runs import event_waits, partitions
from cgk_tasks.runs.models import first_run_id
from cgk_tasks.sql.postgres import autocommit, execute, fetch, transaction
from cgk_tasks.worker.housekeeping import run_housekeeping
from tests.support.content import insert

TODAY = datetime.now(UTC).date()
OLD = TODAY - timedelta(days=400)
STEPS, MAIL, _PROGRESS, BODIES = (table for table in partitions.DAILY_TABLES if table.goes_with_runs)


def run_of(day, number):
    return first_run_id(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))[:-1] + str(number)


def remember(connection, run):
    connection.execute(
        "INSERT INTO cgk.steps (run_id, name, place, kind, state, tenant_id, begun_at)"
        " VALUES (%s, 'a', 1, 'step', 'done', 'acme', %s)",
        (run, datetime(OLD.year, OLD.month, OLD.day, tzinfo=UTC)),
    )


def remembered():
    with transaction() as connection:
        rows = fetch(connection, "SELECT run_id::text, tableoid::regclass::text AS part FROM cgk.steps")
    return {row["run_id"]: row["part"] for row in rows}


@pytest.fixture
def old_day(database):
    partitions.make_days(OLD, STEPS)
    yield
    with transaction() as connection:
        for table in ("runs", "run_history", "steps"):
            connection.execute(f"DELETE FROM cgk.{table}")


def record(connection, run, table, **more):
    state = "scheduled" if table == "runs" else "completed"
    values = {"id": run, "tenant_id": "acme", "event": "test.old", "state": state, "queue": "q", "priority": 5}
    insert(connection, table, {**values, "payload": "{}", "run_at": datetime.now(UTC), **more})


def test_steps_are_in_the_partition_of_the_day_on_which_their_run_was_made(old_day):
    with transaction() as connection:
        remember(connection, run_of(OLD, 1))
        remember(connection, "3f1d3f3e-6d2a-4d0c-9a0e-5f3f5a1c7e21")
    assert sorted(remembered().values()) == [f"cgk.steps_{OLD:%Y%m%d}", "cgk.steps_rest"]


def test_a_day_whose_runs_are_gone_is_dropped(old_day):
    with transaction() as connection:
        remember(connection, run_of(OLD, 1))
    dropped = partitions.forget_days(TODAY - timedelta(days=90), STEPS)
    assert (f"steps_{OLD:%Y%m%d}" in dropped, remembered()) == (True, {})


@pytest.mark.parametrize("table", ["runs", "run_history"])
def test_the_steps_of_a_run_that_is_on_record_stay(old_day, table):
    kept, gone = run_of(OLD, 1), run_of(OLD, 2)
    with transaction() as connection:
        record(connection, kept, table)
        remember(connection, kept)
        remember(connection, gone)
    dropped = partitions.forget_days(TODAY - timedelta(days=90), STEPS)
    assert (f"steps_{OLD:%Y%m%d}" in dropped, list(remembered())) == (False, [kept])


def test_steps_that_are_in_no_days_partition_go_with_their_run_too(old_day):
    kept, gone = "3f1d3f3e-6d2a-4d0c-9a0e-5f3f5a1c7e21", "4f1d3f3e-6d2a-4d0c-9a0e-5f3f5a1c7e22"
    with transaction() as connection:
        record(connection, kept, "runs")
        remember(connection, kept)
        remember(connection, gone)
    partitions.forget_days(TODAY - timedelta(days=90), STEPS)
    assert list(remembered()) == [kept]


def test_the_housekeeping_makes_the_partitions_of_the_coming_days(database):
    run_housekeeping()
    day = TODAY + timedelta(days=7)
    with transaction() as connection:
        made = {
            row["name"]
            for table in ("steps", "mail", "event_mail")
            for row in fetch(connection, partitions.SQL["partitions"], {"table": f"cgk.{table}"})
        }
    assert {f"steps_{day:%Y%m%d}", f"mail_{day:%Y%m%d}", f"event_mail_{day:%Y%m%d}"} <= made


def test_an_event_that_nobody_waits_for_any_more_is_forgotten(database):
    with autocommit() as connection:
        event_waits.note_awaited(connection, {"test.gone": ["id"], "test.fresh": ["id"], "test.needed": ["id"]})
        connection.execute("UPDATE cgk.awaited SET seen_at = now() - interval '8 days' WHERE event <> 'test.fresh'")
        connection.execute(
            "INSERT INTO cgk.event_waits (tenant_id, event, field, value, run_id, name)"
            " VALUES ('acme', 'test.needed', 'id', 'x', %s, 'x')", [run_of(TODAY, 1)]
        )  # fmt: skip
        execute(connection, event_waits.SQL["forget_awaited"], {"days": 7})
        left = set(event_waits.awaited(connection))
        connection.execute("DELETE FROM cgk.event_waits WHERE event = 'test.needed'")
    assert left & {"test.gone", "test.fresh", "test.needed"} == {"test.fresh", "test.needed"}
