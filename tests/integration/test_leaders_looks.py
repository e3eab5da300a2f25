"""What a leader looks at while nothing happens: one statement, and more only where it says that there is more."""

import threading
import uuid

import pytest
from psycopg import errors

from cgk_tasks import send_job
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql.postgres import autocommit, glance, statements
from cgk_tasks.sql.statements import Statement
from cgk_tasks.worker import dispatcher
from cgk_tasks.worker.dispatcher import Dispatcher
from cgk_tasks.worker.glance import look
from tests.support.observed import observed_statements
from tests.support.waiting import wait_until

SQL = statements("dispatch")


class Looked(TenantEvent, event="test.looked"):
    """Of which nobody has a job."""


@pytest.fixture(autouse=True)
def nothing_open(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.workers, cgk.leases, cgk.pauses")
    assert SWITCH.current().is_on


@pytest.fixture
def leader():
    one = Dispatcher(str(uuid.uuid4()))
    one._lease_seconds = 3600.0  # so that it leads for as long as a test takes
    one._housekeeping_at = one._count_usage_at = one._count_runs_at = 0.0  # now, and not amid a test
    assert one.take_lease()
    one.tick()
    wait_until(nothing_in_background)
    one._look_for_lost_at = 0.0
    return one


def nothing_in_background():
    return not {"cgk-housekeeping", "cgk-usage", "cgk-counts"} & {thread.name for thread in threading.enumerate()}


@pytest.fixture
def long_look(leader, monkeypatch):
    """The last one has lasted long."""
    monkeypatch.setattr(leader._looks, "_next_at", float("inf"))


@pytest.fixture
def heard():
    """The statements that run in a test."""
    with observed_statements() as found:
        yield found


def send(**options):
    return send_job(Looked(tenant_id="acme"), queue="nobody-listens", **options).id


def change(statement, *values):
    with autocommit() as connection:
        connection.execute(statement, values)


def test_a_tick_with_nothing_to_do_is_one_statement(leader, heard):
    leader.tick()
    assert heard == ["dispatch.glance"]


def test_where_a_look_lasts_long_the_next_ones_are_short(leader, heard, long_look):
    before = leader.found
    leader.tick()
    assert heard == ["dispatch.short_glance"]
    assert leader.found[-3:] == before[-3:]


def test_what_is_due_or_in_no_message_is_seen_by_short_looks(leader, long_look):
    change("UPDATE cgk.runs SET handed_over_at = NULL WHERE id = %s", send())
    assert leader.tick() == 1
    send(delay=60)
    leader.tick()
    assert 50 < leader.seconds_to_due <= 60


def test_so_are_lanes_that_wait(leader, long_look):
    change("INSERT INTO cgk.shares (queue, tenant_id, open_lanes) VALUES ('q-looks', 'acme', 1)")
    leader.tick()
    assert leader.found.lanes_wait


def test_after_half_a_minute_all_is_gone_through(leader, heard):
    leader._look_for_all_at = 0.0
    leader.tick()
    assert {"transitions.expire", "transitions.release_unlaned", "dispatch.unclaimed_lists"} <= set(heard)


def test_what_has_expired_is_closed(leader, heard):
    run = send(delay=60)
    change("UPDATE cgk.runs SET expires_at = now() - interval '1 second' WHERE id = %s", run)
    leader.tick()
    assert "transitions.expire" in heard


def test_what_is_held_in_no_lane_is_looked_at(leader, heard):
    change("UPDATE cgk.runs SET state = 'held' WHERE id = %s", send(delay=60))
    leader.tick()
    assert "transitions.release_unlaned" in heard


def test_what_was_dispatched_is_looked_for_in_the_broker(leader, heard):
    send()
    leader.tick()
    assert "dispatch.unclaimed_lists" in heard


def test_what_is_in_no_message_is_dispatched(leader):
    change("UPDATE cgk.runs SET handed_over_at = NULL WHERE id = %s", send())
    assert leader.tick() == 1


def test_a_look_tells_when_the_next_run_is_due():
    send(delay=60)
    assert 50 < look().seconds <= 60


def test_a_look_without_runs_finds_nothing():
    found = look()
    assert (found.seconds, found.needs_passes, any(found[2:])) == (None, False, False)


def test_a_lane_that_waits_is_found():
    change("INSERT INTO cgk.shares (queue, tenant_id, open_lanes) VALUES ('q-looks', 'acme', 1)")
    assert (look().lanes_wait, look().needs_passes) == (True, True)


def test_who_does_not_lead_asks_only_whether_somebody_does(leader, heard):
    other = Dispatcher(str(uuid.uuid4()))
    assert not other.take_lease()
    assert heard == ["dispatch.lease_is_free"]


def test_what_is_done_each_hour_waits_until_a_worker_has_settled(heard):
    one = Dispatcher(str(uuid.uuid4()))
    one._housekeeping_at += 3600.0  # whatever keeps this machine busy
    assert one.take_lease()
    one.tick()
    assert "dispatch.forget_keys" not in heard
    one._housekeeping_at -= 3600.0
    wait_until(lambda: one.tick() or "dispatch.forget_keys" in heard)
    wait_until(nothing_in_background)


def test_another_one_leads_once_the_lease_was_dropped(leader):
    leader.drop_lease()
    assert Dispatcher(str(uuid.uuid4())).take_lease()


@pytest.mark.parametrize("threshold", [5, None], ids=["prepared", "not prepared"])
def test_a_glance_is_answered_whatever_was_forgotten_meanwhile(threshold):
    with autocommit() as connection:
        before, connection.prepare_threshold = connection.prepare_threshold, threshold
        try:
            answers = [glance(connection, SQL["lease_is_free"])]
            names = connection.execute(
                "SELECT name FROM pg_prepared_statements WHERE name LIKE 'cgk_glance%'"
            ).fetchall()
            for (name,) in names:
                connection.execute(f"DEALLOCATE {name}", prepare=False)
            answers.append(glance(connection, SQL["lease_is_free"]))
        finally:
            connection.prepare_threshold = before
    assert answers == [("t",), ("t",)]


def test_a_glance_that_fails_raises_what_the_driver_raises():
    with autocommit() as connection, pytest.raises(errors.UndefinedTable):
        glance(connection, Statement("tests", "absent", "SELECT FROM cgk.no_such_table"))


def test_who_does_not_lead_asks_now_and_then_whether_nobody_does(leader, heard, monkeypatch):
    monkeypatch.setattr(dispatcher, "_ASK_FOR_LEASE_SECONDS", 3600.0)
    other = Dispatcher(str(uuid.uuid4()))
    assert [other.take_lease() for _ in range(3)] == [False, False, False]
    assert heard == ["dispatch.lease_is_free"]
    other._ask_for_lease_at = 0.0
    other.take_lease()
    assert heard == ["dispatch.lease_is_free"] * 2


def add_worker():
    change(
        "INSERT INTO cgk.workers (id, name, pid, queues, heartbeat_at) VALUES (%s, 'w', 1, '{}', now())", uuid.uuid4()
    )


def test_a_leader_that_is_the_only_worker_misses_none(leader):
    add_worker()
    leader.tick()
    assert not leader.may_miss_workers


def test_one_beside_other_workers_may_miss_them(leader):
    add_worker()
    add_worker()
    leader.tick()
    assert leader.may_miss_workers


def test_runs_may_be_those_of_a_worker_that_is_gone(leader):
    change("UPDATE cgk.runs SET state = 'running', started_at = now() WHERE id = %s", send())
    leader.tick()
    assert leader.may_miss_workers


@pytest.mark.parametrize("options", [None, {"delay": 60}])
def test_it_is_quiet_where_nothing_waits_but_for_its_time(options):
    if options is not None:
        send(**options)
    assert look().is_quiet


@pytest.mark.parametrize(
    "now",
    [
        "state = 'scheduled', run_at = now() - interval '1 second'", "state = 'pending', handed_over_at = NULL",
        "state = 'pending', handed_over_at = now()", "state = 'running', started_at = now()", "state = 'held'",
        "state = 'retrying', run_at = now()", "expires_at = now() - interval '1 second'",
    ],
)  # fmt: skip
def test_it_is_not_quiet_where_something_runs_may_start_or_has_to_be_closed(now):
    run = send(delay=60)
    change(f"UPDATE cgk.runs SET {now} WHERE id = %s", run)
    assert not look().is_quiet
