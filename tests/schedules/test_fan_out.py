"""What one tick makes: a run for each tenant, once, whoever asks how often."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import Debounce, RateLimit, Singleton, get_job_status, send_job
from cgk_tasks.flow.accept import accept
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.runs.store import find as find_run
from cgk_tasks.schedules.cancel_old import cancel_old
from cgk_tasks.schedules.fan_out import fire, idempotency_key
from cgk_tasks.schedules.schedule import PLATFORM
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.tenancy import suspend_tenant
from tests.schedules.conftest import open_runs, rows, run_sql
from tests.support.jobs import Behave
from tests.support.waiting import wait_until

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_a_tick_makes_one_run_for_every_active_tenant(make_schedule):
    tick = fire(make_schedule(), NINE, now=NINE)
    runs = open_runs()
    assert tick.runs == 3
    assert [(run["tenant_id"], json.loads(run["sealed_payload"])["tenantId"], run["state"]) for run in runs] == [
        (tenant, tenant, "pending") for tenant in ("acme", "globex", "initech")
    ]


def test_the_run_carries_its_schedule_and_the_nominal_time(make_schedule):
    fire(make_schedule(), NINE, now=NINE + timedelta(seconds=20))
    status = get_job_status(open_runs()[0]["id"])
    assert (status.schedule, status.scheduled_for) == ("test.tick", NINE)


def test_a_tick_that_is_made_again_makes_nothing(make_schedule):
    schedule = make_schedule()
    first, second = fire(schedule, NINE, now=NINE), fire(schedule, NINE, now=NINE)
    assert (first.is_new, second.is_new, len(open_runs())) == (True, False, 3)


def test_ticks_made_by_many_at_once_make_each_tenants_run_once(make_schedule):
    schedule = make_schedule()
    threads = [threading.Thread(target=fire, args=(schedule, NINE), kwargs={"now": NINE}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(open_runs()) == 3


def test_a_run_that_is_made_although_the_tick_was_forgotten_has_the_same_id_and_so_is_not_made_twice(make_schedule):
    schedule = make_schedule(overlap="allow")
    fire(schedule, NINE, now=NINE)
    before = [run["id"] for run in open_runs()]
    run_sql("DELETE FROM cgk.schedule_ticks")
    run_sql("DELETE FROM cgk.idempotency_keys")
    fire(schedule, NINE, now=NINE)
    assert [run["id"] for run in open_runs()] == before


def test_a_ticks_run_and_a_send_with_its_key_are_one(make_schedule):
    fire(make_schedule(), NINE, now=NINE)
    sent = send_job(Behave(tenant_id="acme", action="echo"), idempotency_key=idempotency_key("test.tick", NINE))
    assert (sent.deduplicated, sent.id) == (True, open_runs()[0]["id"])


def test_suspended_tenants_are_left_out_and_counted(make_schedule):
    suspend_tenant("globex")
    tick = fire(make_schedule(), NINE, now=NINE)
    assert (tick.runs, tick.suspended) == (2, 1)


def test_a_tick_for_the_platform_makes_one_run_of_the_platforms_tenant(make_schedule):
    tick = fire(make_schedule(scope=PLATFORM), NINE, now=NINE)
    assert (tick.runs, [run["tenant_id"] for run in open_runs()]) == (1, ["platform"])


def test_the_platforms_tenant_is_no_customer(make_schedule):
    from cgk_tasks import active_tenants

    fire(make_schedule("test.platform", scope=PLATFORM), NINE, now=NINE)
    fire(make_schedule(), NINE, now=NINE)
    assert "platform" not in [tenant.id for tenant in active_tenants()]
    assert len(open_runs()) == 3


def test_spread_gives_every_tenant_a_stable_offset_inside_the_window(make_schedule):
    schedule = make_schedule(spread=3600, overlap="allow")
    fire(schedule, NINE, now=NINE)
    fire(schedule, NINE + timedelta(days=1), now=NINE + timedelta(days=1))
    offsets: dict[str, set[timedelta]] = {}
    for run in open_runs():
        offsets.setdefault(run["tenant_id"], set()).add(run["run_at"] - run["scheduled_for"])
    assert all(len(own) == 1 for own in offsets.values())
    assert len(set.union(*offsets.values())) == 3
    assert all(timedelta(0) <= offset < timedelta(hours=1) for own in offsets.values() for offset in own)


def test_a_run_with_an_offset_waits_in_the_record(make_schedule):
    fire(make_schedule(spread=3600), NINE, now=NINE)
    assert {run["state"] for run in open_runs()} == {"scheduled"}


def test_one_tenant_alone_starts_at_once(make_schedule):
    fire(make_schedule(spread=3600), NINE, now=NINE, tenant_id="acme", by_hand=True)
    assert [run["run_at"] for run in open_runs()] == [NINE]


def test_a_late_tick_is_spread_from_now_on(make_schedule):
    now = NINE + timedelta(hours=5)
    fire(make_schedule(spread=3600), NINE, now=now)
    assert all(now <= run["run_at"] < now + timedelta(hours=1) for run in open_runs())


def test_a_tenant_can_switch_a_schedule_off_or_shift_it(make_schedule):
    from cgk_tasks.schedules.overrides import override_schedule

    schedule = make_schedule()
    override_schedule("test.tick", "acme", enabled=False)
    override_schedule("test.tick", "globex", shift=timedelta(hours=2))
    tick = fire(schedule, NINE, now=NINE)
    assert (tick.runs, tick.switched_off) == (2, 1)
    assert [(run["tenant_id"], run["run_at"]) for run in open_runs()] == [
        ("globex", NINE + timedelta(hours=2)), ("initech", NINE),
    ]  # fmt: skip


@pytest.mark.parametrize(("overlap", "made", "overlapping", "still_open"), [
    ("allow", 3, 0, 6), ("skip", 0, 3, 3), ("cancel_old", 3, 0, 3),
])  # fmt: skip
def test_what_a_tick_does_while_the_last_ones_runs_are_open(make_schedule, overlap, made, overlapping, still_open):
    schedule = make_schedule(overlap=overlap)
    fire(schedule, NINE, now=NINE)
    tick = fire(schedule, NINE + timedelta(days=1), now=NINE + timedelta(days=1))
    assert (tick.runs, tick.overlapping, len(open_runs())) == (made, overlapping, still_open)


def test_an_old_run_that_gave_way_is_recorded_as_cancelled(make_schedule):
    schedule = make_schedule(overlap="cancel_old")
    fire(schedule, NINE, now=NINE)
    fire(schedule, NINE + timedelta(days=1), now=NINE + timedelta(days=1))
    closed = rows("SELECT state, error_code, scheduled_for FROM cgk.run_history")
    assert {(run["state"], run["error_code"], run["scheduled_for"]) for run in closed} == {
        ("cancelled", "OVERLAP", NINE)
    }


@pytest.mark.parametrize("is_held", [False, True])
def test_a_tick_that_cancels_waits_for_whoever_ends_a_child_and_holds_no_parent_meanwhile(make_schedule, is_held):
    """Who ends a child locks it, and then its parent. A tick that had locked the parent first would wait for that one,
    and that one for the tick.
    """
    fire(make_schedule(overlap="cancel_old"), NINE, now=NINE)
    parents = [run["id"] for run in open_runs()]
    children = [child_of(parent) for parent in parents]
    if is_held:
        run_sql("UPDATE cgk.runs SET state = 'running', attempt = 1, worker_id = gen_random_uuid()")

    def cancel():
        with transaction() as connection:
            cancel_old(connection, "test.tick", None)

    ticking = threading.Thread(target=cancel)
    with transaction() as connection:
        connection.execute("SELECT FROM cgk.runs WHERE id = ANY(%s) FOR UPDATE", [children])
        ticking.start()
        wait_until(lambda: connection.execute(BLOCKED).fetchone()[0])
        connection.execute("SELECT FROM cgk.runs WHERE id = ANY(%s) FOR UPDATE NOWAIT", [parents])
    ticking.join()
    wanted = rows("SELECT id FROM cgk.runs WHERE cancel_requested_at IS NOT NULL" if is_held else CANCELLED)
    assert len(wanted) == 6


BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
CANCELLED = "SELECT id FROM cgk.run_history WHERE state = 'cancelled' AND error_code = 'OVERLAP'"


def child_of(parent_id):
    run = find_run(parent_id)
    event, origin = Behave(tenant_id=run["tenant_id"], action="echo"), Origin(run_id=new_run_id(), parent_id=parent_id)
    text = event.to_json().decode()
    accept([new_run(event.event_name, event.tenant_id, text, SendOptions(queue="nobody-listens"), origin)])
    return origin.run_id


def test_the_number_of_statements_does_not_grow_with_the_tenants(make_schedule, monkeypatch):
    from cgk_tasks.schedules import fan_out

    seen = []
    for name in ("fetch", "execute"):
        real = getattr(fan_out, name)
        monkeypatch.setattr(fan_out, name, lambda *args, _real=real: seen.append(args[1]) or _real(*args))
    fire(make_schedule(), NINE, now=NINE)
    assert len(seen) == 5


# Rules of the event's job


def test_a_job_with_a_ttl_gives_it_to_the_runs_of_its_schedule(make_schedule, ruled):
    ruled(ttl=3600.0)
    fire(make_schedule(), NINE, now=NINE)
    assert rows("SELECT DISTINCT expires_at - run_at AS ttl FROM cgk.runs") == [{"ttl": timedelta(hours=1)}]


def test_a_tenant_whose_only_run_is_open_gets_none(make_schedule, ruled):
    ruled(send_rules=(Singleton(),))
    send_job(Behave(tenant_id="acme", action="echo"))
    tick = fire(make_schedule(), NINE, now=NINE)
    assert (tick.runs, sorted(run["tenant_id"] for run in open_runs())) == (2, ["globex", "initech"])


def test_ticks_and_sends_are_one_run_where_the_event_is_debounced(make_schedule, ruled):
    ruled(send_rules=(Debounce(60),))
    sent = send_job(Behave(tenant_id="acme", action="before"))
    fire(make_schedule(), NINE, now=NINE)
    status = get_job_status(sent.id)
    assert (status.state, status.payload["action"], status.schedule) == ("scheduled", "echo", "test.tick")


def test_a_tick_that_is_made_again_counts_once_where_a_rule_limits_it(make_schedule, ruled):
    ruled(send_rules=(RateLimit(1, every=3600),))
    schedule = make_schedule()
    first, second = fire(schedule, NINE, now=NINE), fire(schedule, NINE, now=NINE)
    later = fire(schedule, NINE + timedelta(minutes=1), now=NINE + timedelta(minutes=1))
    assert (first.runs, second.is_new, later.runs) == (3, False, 0)


def test_runs_that_rules_let_be_made_are_spread_as_ever(make_schedule, ruled):
    ruled(send_rules=(Singleton(),))
    fire(make_schedule(spread=3600), NINE, now=NINE)
    assert all(NINE <= run["run_at"] < NINE + timedelta(hours=1) for run in open_runs())
    assert len({run["run_at"] for run in open_runs()}) == 3
