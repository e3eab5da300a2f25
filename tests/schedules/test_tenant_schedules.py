"""Schedules that are made at run time, each for one tenant."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import (
    Batch,
    create_schedule,
    delete_schedule,
    get_schedule,
    list_schedules,
    pause_schedule,
    resume_schedule,
    send_job,
    tenant_context,
    update_schedule,
)  # fmt: skip
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.errors import (
    InvalidOptionError,
    PayloadInvalidError,
    TenantContextError,
    UnknownScheduleError,
    UnknownTenantError,
)  # fmt: skip
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.jobs.registry import add_job, find_job
from cgk_tasks.runtime import current_runtime
from cgk_tasks.schedules.health import late_schedules
from cgk_tasks.schedules.tenant_ticks import fire_tenant_schedules
from cgk_tasks.tenancy import suspend_tenant
from tests.schedules.conftest import open_runs, rows, run_sql

pytestmark = pytest.mark.usefixtures("clean")
ECHO = {"action": "echo"}


def made(tenant="acme", cron="every 1m", **options):
    return create_schedule(tenant, "test.behave", cron, payload=ECHO, **options)


def set_back(schedule, **pause):
    """As if the schedule had been made some time ago."""
    past = datetime.now(UTC) - timedelta(**pause)
    run_sql(
        "UPDATE cgk.tenant_schedules SET done_until = %(past)s, next_at = %(past)s WHERE id = %(id)s",
        past=past,
        id=schedule.id,
    )


def runs_of(schedule):
    return open_runs(f"tenant:{schedule.id}")


def test_a_due_tick_makes_one_run_for_its_tenant_with_the_nominal_time():
    schedule = made()
    made_now = fire_tenant_schedules(schedule.next_at + timedelta(seconds=3))
    (run,) = runs_of(schedule)
    assert (made_now, run["tenant_id"], run["scheduled_for"]) == (1, "acme", schedule.next_at)
    assert json.loads(run["sealed_payload"]) == {"tenantId": "acme", "action": "echo", "argument": ""}


def test_a_tick_is_made_once_however_often_it_is_looked_for():
    schedule = made()
    due = schedule.next_at + timedelta(seconds=3)
    assert [fire_tenant_schedules(due) for _ in range(3)] == [1, 0, 0]


def test_the_same_dedup_key_changes_the_schedule_instead_of_making_a_second():
    first = made(dedup_key="report")
    second = made(cron="0 7 * * *", dedup_key="report")
    assert (second.id, second.cron, len(list_schedules("acme"))) == (first.id, "0 7 * * *", 1)


def test_the_same_dedup_key_of_another_tenant_is_another_schedule():
    assert made(dedup_key="report").id != made("globex", dedup_key="report").id


def test_a_paused_schedule_does_not_tick_and_makes_up_for_nothing():
    schedule = made()
    pause_schedule(schedule.id)
    set_back(schedule, hours=1)
    assert fire_tenant_schedules(datetime.now(UTC)) == 0
    assert resume_schedule(schedule.id).next_at > datetime.now(UTC)


def test_a_changed_schedule_ticks_at_its_new_times_only():
    schedule = made(cron="0 7 * * *")
    changed = update_schedule(schedule.id, cron="every 1h", payload={"action": "fail"})
    assert (changed.cron, changed.payload["action"], changed.next_at.minute) == ("every 1h", "fail", 0)


def test_a_deleted_schedule_is_gone():
    schedule = made()
    delete_schedule(schedule.id)
    with pytest.raises(UnknownScheduleError):
        get_schedule(schedule.id)


def test_a_schedule_whose_event_has_no_job_does_not_tick_and_is_not_late():
    schedule = create_schedule("acme", "inventory.sync", "every 1h")
    set_back(schedule, hours=3)
    assert late_schedules() == []
    assert fire_tenant_schedules(datetime.now(UTC)) == 0
    assert get_schedule(schedule.id).next_at > datetime.now(UTC)


def test_a_suspended_tenants_ticks_are_skipped():
    schedule = made()
    suspend_tenant("acme")
    assert fire_tenant_schedules(schedule.next_at) == 0


def test_a_tick_becomes_part_of_the_run_that_waits_for_further_sends():
    before = find_job("test-behave")
    add_job(replace(before, send_rules=(Batch(100, max_wait=3600),)))
    for part in (ROUTES, SWITCH):
        current_runtime().drop(part)
    try:
        sent = send_job("test.behave", {"tenantId": "acme", "action": "before"})
        schedule = made()
        set_back(schedule, seconds=61)
        fire_tenant_schedules(datetime.now(UTC))
        assert [run["id"] for run in runs_of(schedule)] == [sent.id]
        assert rows("SELECT merged FROM cgk.runs") == [{"merged": 2}]
    finally:
        add_job(before)


@pytest.mark.parametrize(("misfire", "runs"), [("once", 1), ("skip", 0), ("all", 4)])
def test_after_a_downtime_the_misfire_policy_decides(misfire, runs):
    schedule = made(cron="every 1h", misfire=misfire)
    now = datetime.now(UTC).replace(minute=30)
    run_sql("UPDATE cgk.tenant_schedules SET done_until = %(t)s, next_at = %(t)s", t=now - timedelta(hours=4))
    fire_tenant_schedules(now)
    assert len(runs_of(schedule)) == runs


@pytest.mark.parametrize(("overlap", "still_open"), [("skip", 1), ("allow", 2), ("cancel_old", 1)])
def test_what_a_tick_does_while_the_last_run_is_open(overlap, still_open):
    schedule = made(overlap=overlap)
    fire_tenant_schedules(schedule.next_at)
    fire_tenant_schedules(schedule.next_at + timedelta(minutes=1))
    assert len(runs_of(schedule)) == still_open


def test_thousands_of_due_schedules_are_made_in_batches():
    for _ in range(3):
        made()
    run_sql(
        """INSERT INTO cgk.tenant_schedules (id, tenant_id, event, sealed_payload, cron, timezone, misfire, overlap,
                                             max_age, done_until, next_at)
           SELECT gen_random_uuid(), tenant_id, event, sealed_payload, cron, timezone, misfire, overlap, max_age,
                  done_until, next_at
             FROM cgk.tenant_schedules, generate_series(1, 500)"""
    )
    assert fire_tenant_schedules(datetime.now(UTC) + timedelta(minutes=1)) == 1503


def test_a_schedule_that_does_not_tick_in_time_is_reported_as_late():
    set_back(made(), minutes=10)
    assert [late.name for late in late_schedules()] == ["schedules of tenants"]


@pytest.mark.parametrize(("change", "error"), [
    ({"tenant_id": "nobody"}, UnknownTenantError), ({"event": "digest.send"}, PayloadInvalidError),
    ({"cron": "0 25 * * *"}, InvalidOptionError), ({"timezone": "Mars/Olympus"}, InvalidOptionError),
    ({"misfire": "sometimes"}, InvalidOptionError), ({"event": "analytics.track"}, InvalidOptionError),
])  # fmt: skip
def test_what_could_never_work_is_refused(change, error):
    wanted = {"tenant_id": "acme", "event": "test.behave", "cron": "0 7 * * *", "payload": ECHO}
    with pytest.raises(error):
        create_schedule(**{**wanted, **change})
    assert rows("SELECT FROM cgk.tenant_schedules") == []


def test_a_tenants_code_cannot_reach_another_tenants_schedule():
    schedule = made("globex")
    with tenant_context("acme"):
        for action in (get_schedule, pause_schedule, delete_schedule):
            with pytest.raises(UnknownScheduleError):
                action(schedule.id)
        with pytest.raises(TenantContextError):
            made("globex")
