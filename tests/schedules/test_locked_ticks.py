"""Ticks while an application's transaction is open that has what one tenant's run needs."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from cgk_tasks import Singleton, create_schedule, send_job
from cgk_tasks.errors import StoreError
from cgk_tasks.schedules.fan_out import fire
from cgk_tasks.schedules.tenant_ticks import fire_tenant_schedules
from cgk_tasks.sql.sqlalchemy_engine import engine
from tests.schedules.conftest import open_runs, rows
from tests.support.jobs import Behave
from tests.support.open_transactions import done_meanwhile, locked_runs

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture
def session(clean):
    with Session(engine()) as own:
        yield own


@pytest.fixture
def only_of_acme(ruled, session):
    """An application is about to send the only run that acme may have of the event."""
    ruled(send_rules=(Singleton(),))
    send_job(Behave(tenant_id="acme", action="echo"), session=session)
    return session


def refused(schedule, **options):
    with pytest.raises(StoreError, match="not made for 1 tenants, of which acme is one") as found:
        fire(schedule, NINE, now=NINE, **options)
    return found


def tenants_with_runs(schedule="test.tick"):
    return [run["tenant_id"] for run in open_runs(schedule)]


def test_the_other_tenants_get_their_runs(make_schedule, only_of_acme):
    done_meanwhile(refused, make_schedule())
    assert tenants_with_runs() == ["globex", "initech"]


def test_the_tenants_run_is_made_when_the_transaction_has_ended_and_none_of_the_others_twice(
    make_schedule, only_of_acme
):
    schedule = make_schedule()
    done_meanwhile(refused, schedule)
    before = {run["id"] for run in open_runs()}
    only_of_acme.rollback()
    assert (fire(schedule, NINE, now=NINE).runs, tenants_with_runs()) == (3, ["acme", "globex", "initech"])
    assert before < {run["id"] for run in open_runs()}


def test_what_the_rest_waits_for_does_not_cancel_what_was_made(make_schedule, only_of_acme):
    schedule = make_schedule(overlap="cancel_old")
    done_meanwhile(refused, schedule)
    only_of_acme.rollback()
    fire(schedule, NINE, now=NINE)
    assert tenants_with_runs() == ["acme", "globex", "initech"]


def test_by_hand_all_or_none_is_made(make_schedule, only_of_acme):
    done_meanwhile(refused, make_schedule(), by_hand=True)
    assert (open_runs(), rows("SELECT FROM cgk.schedule_ticks")) == ([], [])


def test_the_engine_makes_the_ticks_of_other_schedules_and_tries_again(make_schedule, django, only_of_acme):
    from cgk_tasks.schedules.engine import Engine

    schedules = {
        name: make_schedule(name, "0 * * * *", event=event, payload=payload)
        for name, event, payload in [("a.tick", "test.behave", None), ("b.tick", "test.slow", {"seconds": 0})]
    }
    now = NINE - timedelta(seconds=1)
    made = Engine(schedules, lambda: now)
    made.reload()
    now = NINE
    assert done_meanwhile(made.tick) == 1.0
    assert [len(tenants_with_runs(name)) for name in schedules] == [2, 3]
    only_of_acme.rollback()
    made.tick()
    assert [len(tenants_with_runs(name)) for name in schedules] == [3, 3]


def test_old_runs_that_are_locked_go_on_and_those_of_others_are_cancelled(make_schedule):
    schedule = make_schedule(overlap="cancel_old")
    fire(schedule, NINE - timedelta(days=1), now=NINE - timedelta(days=1))
    old = {run["tenant_id"]: run["id"] for run in open_runs()}
    with locked_runs(old["acme"]):
        assert done_meanwhile(fire, schedule, NINE, now=NINE).runs == 3
    assert {run["id"] for run in open_runs()} & set(old.values()) == {old["acme"]}


def test_a_tenants_own_schedule_that_is_locked_stays_due_and_others_tick(only_of_acme):
    acme, globex = (
        create_schedule(tenant, "test.behave", "every 1m", payload={"action": "echo"}) for tenant in ("acme", "globex")
    )
    due = max(acme.next_at, globex.next_at) + timedelta(seconds=1)
    assert done_meanwhile(fire_tenant_schedules, due) == 1
    assert tenants_with_runs(f"tenant:{globex.id}") == ["globex"]
    only_of_acme.rollback()
    assert fire_tenant_schedules(due) == 1
    assert tenants_with_runs(f"tenant:{acme.id}") == ["acme"]
