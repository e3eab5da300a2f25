"""What became of the runs of each tick, as the leader counts it and pages show it."""

from datetime import UTC, datetime, timedelta

from cgk_tasks.runs import tick_outcomes
from cgk_tasks.runs.tick_outcomes import count_outcomes, last_outcomes
from cgk_tasks.schedules.fan_out import fire
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import suspend_tenant
from tests.schedules.conftest import run_sql

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)

CLOSE = """
WITH gone AS (DELETE FROM cgk.runs WHERE schedule = %(schedule)s AND tenant_id = %(tenant)s RETURNING *)
INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, sealed_payload, attempt, run_at, created_at,
                             closed_at, schedule, scheduled_for)
SELECT id, tenant_id, event, %(state)s, queue, priority, sealed_payload, 1, run_at, created_at, now(), schedule,
       scheduled_for
  FROM gone
"""


def close(tenant, state="completed", schedule="test.tick"):
    run_sql(CLOSE, schedule=schedule, tenant=tenant, state=state)


def outcome(schedule="test.tick"):
    """Of the last tick."""
    return last_outcomes([schedule], 20)[schedule][-1]


def count_again():
    """As if all that is counted later were due now."""
    run_sql("UPDATE cgk.schedule_ticks SET count_at = now() WHERE count_at IS NOT NULL")
    return count_outcomes()


def counts(tick):
    return tick.open, tick.completed, tick.failed, tick.otherwise


def test_a_tick_is_counted_by_how_its_runs_ended(make_schedule):
    fire(make_schedule(), NINE, now=NINE)
    close("acme"), close("globex", "failed")
    assert count_outcomes() == 1
    assert (counts(outcome()), outcome().state) == ((1, 1, 1, 0), "failed")


def test_before_anybody_has_counted_nothing_is_known(make_schedule):
    fire(make_schedule(), NINE, now=NINE)
    tick = outcome()
    assert (counts(tick), tick.is_counted, tick.state) == ((None,) * 4, False, "open")


def test_it_is_counted_again_until_all_of_its_runs_are_closed_and_then_no_more(make_schedule):
    fire(make_schedule(), NINE, now=NINE)
    close("acme")
    assert (count_outcomes(), count_outcomes()) == (1, 0)  # not again at once
    close("globex"), close("initech", "cancelled")
    assert (count_again(), count_again()) == (1, 0)
    assert (counts(outcome()), outcome().state) == ((0, 2, 0, 1), "otherwise")


def test_what_has_been_counted_stays_when_the_history_is_dropped(make_schedule):
    fire(make_schedule(), NINE, now=NINE)
    close("acme"), close("globex")
    count_outcomes()
    run_sql("DELETE FROM cgk.run_history")
    close("initech")
    count_again()
    assert counts(outcome()) == (0, 2, 0, 0)


def test_ticks_of_several_schedules_at_one_moment_are_told_apart(make_schedule):
    for name in ("test.tick", "test.other"):
        fire(make_schedule(name), NINE, now=NINE)
    close("acme", "failed"), close("acme", schedule="test.other")
    assert count_outcomes() == 2
    assert [counts(outcome(name)) for name in ("test.tick", "test.other")] == [(2, 0, 1, 0), (2, 1, 0, 0)]


def test_two_ticks_within_one_millisecond_are_told_apart(make_schedule):
    schedule = make_schedule(overlap="allow")
    for microsecond in (1, 2):
        fire(schedule, NINE + timedelta(microseconds=microsecond), now=NINE, tenant_id="acme", by_hand=True)
    assert count_outcomes() == 2
    assert [tick.open for tick in last_outcomes(["test.tick"], 20)["test.tick"]] == [1, 1]


def test_a_tick_by_hand_at_any_microsecond_is_counted(make_schedule):
    schedule = make_schedule(overlap="allow")
    moments = [NINE + timedelta(microseconds=step * 977) for step in range(20)]
    for moment in moments:
        fire(schedule, moment, now=NINE, tenant_id="acme", by_hand=True)
    count_outcomes()
    assert [tick.open for tick in last_outcomes(["test.tick"], 20)["test.tick"]] == [1] * 20


def test_a_tick_for_nobody_is_over_at_once(make_schedule):
    for tenant in ("acme", "globex", "initech"):
        suspend_tenant(tenant)
    fire(make_schedule(), NINE, now=NINE)
    assert (count_outcomes(), count_again()) == (1, 0)
    assert (outcome().state, outcome().left_out) == ("nobody", 3)


def test_who_still_runs_is_missed_and_who_is_suspended_is_not(make_schedule):
    schedule = make_schedule()
    suspend_tenant("initech")
    fire(schedule, NINE, now=NINE)
    close("acme"), close("globex")
    count_outcomes()
    assert outcome().state == "completed"
    fire(schedule, NINE + timedelta(hours=1), now=NINE + timedelta(hours=1))
    close("acme")
    fire(schedule, NINE + timedelta(hours=2), now=NINE + timedelta(hours=2))
    close("acme")
    run_sql("DELETE FROM cgk.runs")
    count_again()
    assert (outcome().state, outcome().overlapping, outcome().suspended) == ("missed", 1, 1)


def test_many_runs_are_counted_some_at_a_time(make_schedule, monkeypatch):
    monkeypatch.setattr(tick_outcomes, "_RUNS_AT_ONCE", 4)
    schedule = make_schedule(overlap="allow")
    for hour in range(5):
        fire(schedule, NINE + timedelta(hours=hour), now=NINE + timedelta(hours=hour))
    found = []
    while counted := count_outcomes():
        found.append(counted)
    assert found == [2, 2, 1]  # three runs each: begun while less than four are counted


def test_the_last_ticks_are_given_the_oldest_first_and_no_more_than_asked_for(make_schedule):
    schedule = make_schedule(overlap="allow")
    for hour in range(4):
        fire(schedule, NINE + timedelta(hours=hour), now=NINE + timedelta(hours=hour))
    found = last_outcomes(["test.tick", "test.never"], 3)
    assert list(found) == ["test.tick"]
    assert [tick.scheduled_for.hour for tick in found["test.tick"]] == [10, 11, 12]


def test_all_schedules_are_read_with_one_question(make_schedule, monkeypatch):
    for number in range(5):
        fire(make_schedule(f"test.n{number}"), NINE, now=NINE)
    asked = []
    fetch = tick_outcomes.fetch_or_before
    monkeypatch.setattr(tick_outcomes, "fetch_or_before", lambda *given: asked.append(given[1]) or fetch(*given))
    assert len(last_outcomes([f"test.n{number}" for number in range(5)], 20)) == 5
    assert len(asked) == 1


def test_runs_are_found_by_their_ids_and_ticks_by_their_index(make_schedule):
    """However long the history is: no statement reads all of a table."""
    fire(make_schedule(), NINE, now=NINE)
    values = {"ticks": 500, "most": 50_000, "again": 30.0, "part": 0.2}
    with autocommit() as connection:
        connection.execute("SET enable_seqscan = off")
        try:
            plan = "\n".join(
                row[0] for row in connection.execute(f"EXPLAIN {tick_outcomes.SQL['count']}", values).fetchall()
            )
        finally:
            connection.execute("RESET enable_seqscan")
    assert "Seq Scan" not in plan
    assert "schedule_ticks_uncounted" in plan


def test_before_the_migration_the_ticks_are_shown_without_outcomes(make_schedule):
    fire(make_schedule(), NINE, now=NINE)
    names = ("open", "completed", "failed", "otherwise", "counted_at", "count_at")
    with autocommit() as connection:
        for name in names:
            connection.execute(f"ALTER TABLE cgk.schedule_ticks RENAME COLUMN {name} TO {name}_away")
    try:
        tick = outcome()
    finally:
        with autocommit() as connection:
            for name in names:
                connection.execute(f"ALTER TABLE cgk.schedule_ticks RENAME COLUMN {name}_away TO {name}")
    assert (tick.runs, counts(tick)) == (3, (None,) * 4)
