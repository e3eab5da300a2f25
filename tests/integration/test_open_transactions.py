"""An application's transaction that is open for long holds up neither other runs, nor the leader, nor recovery."""

import threading
import uuid

import pytest
from sqlalchemy.orm import Session

from cgk_tasks import get_run, send_job
from cgk_tasks.admission.passes import Passes
from cgk_tasks.runs import store
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql.postgres import autocommit, statements
from cgk_tasks.sql.sqlalchemy_engine import engine
from cgk_tasks.worker import recovery
from cgk_tasks.worker.gathered import GatheredClosings
from tests.support.jobs import Behave
from tests.support.lanes import add_worker, hold, ids_of, make_lane
from tests.support.open_transactions import done_meanwhile, is_waited_for, locked_runs
from tests.support.waiting import wait_until


@pytest.fixture
def me():
    """A worker, by its id."""
    return str(uuid.uuid4())


def sent(tenant="acme", queue="q-nobody"):
    return send_job(Behave(tenant_id=tenant, action="echo"), queue=queue).id


def sql(statement, values=()):
    with autocommit() as connection:
        return connection.execute(statement, values)


@pytest.fixture
def session(database):
    with Session(engine()) as own:
        yield own


# Claims


def test_the_other_runs_of_a_packet_are_claimed(database, me):
    locked, free = sent("acme"), sent("globex")
    with locked_runs(locked):
        claimed = done_meanwhile(store.claim, [locked, free], me, 1)
    assert [run.id for run in claimed] == [free]


def test_a_run_that_was_locked_at_its_claim_can_be_claimed_afterwards(database, me):
    locked = sent()
    with locked_runs(locked):
        assert done_meanwhile(store.claim, [locked], me, 1) == []
    assert [run.id for run in store.claim([locked], me, 1)] == [locked]


# Passes


@pytest.fixture
def passes(database, setting):
    setting(CGK_WINDOW_SECONDS=None)
    sql("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers")
    sql("UPDATE cgk.passes SET known = '{}', clocks = '{}'")
    add_worker("q-lanes", 1000)
    yield Passes(lambda _event: 0.01)
    sql("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers")


def test_a_pass_admits_the_runs_that_nobody_has_locked(passes):
    locked, later = hold(make_lane("acme"), 2)
    (other,) = hold(make_lane("globex"))
    with locked_runs(locked):
        assert set(ids_of(done_meanwhile(passes.make))) == {later, other}


def test_a_run_that_a_pass_has_passed_over_is_admitted_afterwards(passes):
    locked, _later = hold(make_lane("acme"), 2)
    with locked_runs(locked):
        done_meanwhile(passes.make)
    passes.sweep()
    assert ids_of(passes.make()) == [locked]


def test_runs_of_lanes_that_are_gone_are_released_but_for_those_that_are_locked(passes):
    locked, free = hold(make_lane("acme"), 2)
    sql("DELETE FROM cgk.lanes")
    with locked_runs(locked):
        done_meanwhile(passes.sweep)
    assert sql("SELECT id::text FROM cgk.runs WHERE lane_id IS NULL").fetchall() == [(free,)]


# Recovery


def test_runs_that_are_locked_are_reclaimed_when_they_are_free(database, me):
    locked, free = sent("acme"), sent("globex")
    assert len(store.claim([locked, free], me, 1)) == 2
    with locked_runs(locked):
        assert done_meanwhile(recovery.reclaim, me, None, reason="a test") == 1
    assert recovery.reclaim(me, None, reason="a test") == 1


def test_a_run_whose_parent_is_locked_does_not_keep_others_from_being_reclaimed(database, me):
    parent, child, other = sent(), sent(), sent("globex")
    assert len(store.claim([parent, child, other], me, 1)) == 3
    sql("UPDATE cgk.runs SET children_open = 1, worker_id = NULL WHERE id = %s", [parent])
    sql("UPDATE cgk.runs SET parent_id = %s, cancel_requested_at = now() WHERE id = %s", [parent, child])
    with locked_runs(parent):
        assert done_meanwhile(recovery.reclaim, me, None, reason="a test") == 1
    assert get_run(other).state == "pending"
    assert recovery.reclaim(me, None, reason="a test") == 1
    assert {get_run(run_id).state for run_id in (parent, child)} == {"cancelled"}


# Housekeeping


@pytest.mark.parametrize(
    ("file", "values"), [("dispatch", {"limit": 10}), ("housekeeping", {"limit": 10, "tenant_id": None})]
)
def test_keys_that_are_over_are_forgotten_but_for_one_that_is_just_used_again(database, session, file, values):
    for key in ("used again", "over"):
        send_job(Behave(tenant_id="acme", action="echo"), queue="q-nobody", idempotency_key=key)
    sql("UPDATE cgk.idempotency_keys SET expires_at = now()")
    send_job(Behave(tenant_id="acme", action="echo"), queue="q-nobody", idempotency_key="used again", session=session)
    done_meanwhile(sql, statements(file)["forget_keys"], values)
    assert sql("SELECT key FROM cgk.idempotency_keys").fetchall() == [("used again",)]


# Ends


@pytest.mark.parametrize("error_code", [None, "GIVEN_UP"])
def test_the_other_ends_of_a_packet_are_written_while_one_run_is_locked(database, me, error_code):
    locked, free, last = sent("acme"), sent("globex"), sent("initech")
    closings = GatheredClosings(me, lambda _closed: None, 20.0, flush=False)
    for run in store.claim([locked, free, last], me, 1):
        closings.add(run, Closing(run.id, run.tenant_id, run.attempt, "completed", error_code=error_code))
    writing = threading.Thread(target=closings.write)
    with locked_runs(locked) as connection:
        writing.start()
        wait_until(lambda: get_run(free).state == get_run(last).state == "completed")
        wait_until(lambda: is_waited_for(connection))
    writing.join()
    assert get_run(locked).state == "completed"
