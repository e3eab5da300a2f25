"""Tenants on their error budget: paused, told of, and back at a tenth of their weight. No worker lives here."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import end_quarantine, list_pauses, list_quarantines, pause, resume, send_job, set_tenant_limits
from cgk_tasks.flow.quarantine import look
from cgk_tasks.monitoring.alerts import AlertWatch
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from cgk_tasks.worker.housekeeping import run_housekeeping
from tests.support.lanes import make_lane

CLOSED = """
INSERT INTO cgk.run_history
       (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, created_at, closed_at)
SELECT given.id, %(tenant)s, 'order.created', %(state)s, 'q', 5, '{}', %(at)s, %(at)s, %(at)s
  FROM unnest(%(ids)s::uuid[]) AS given (id)
"""
ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}


@pytest.fixture(autouse=True)
def switched_on(database, setting):
    with autocommit() as connection:
        connection.execute(
            "TRUNCATE cgk.runs, cgk.run_history, cgk.lanes, cgk.shares, cgk.pauses, cgk.quarantines, cgk.tenant_limits"
        )
        connection.execute("DELETE FROM cgk.idempotency_keys")
        connection.execute("UPDATE cgk.flow_changes SET version = version + 1")
    run_housekeeping()
    setting(CGK_QUARANTINE="true", CGK_QUARANTINE_RUNS="10")


def closed(failed, completed, tenant="acme", ago=1.0):
    at = datetime.now(UTC) - timedelta(seconds=ago)
    with autocommit() as connection:
        for state, runs in (("failed", failed), ("completed", completed)):
            ids = [str(uuid.uuid4()) for _ in range(runs)]
            connection.execute(CLOSED, {"tenant": tenant, "state": state, "at": at, "ids": ids})


def weight(tenant="acme"):
    with autocommit() as connection:
        rows = connection.execute("SELECT weight FROM cgk.shares WHERE tenant_id = %s", [tenant]).fetchall()
    return {row[0] for row in rows}


def at_once(column, seconds=0):
    """Let a time of the quarantine have come."""
    with autocommit() as connection:
        connection.execute(f"UPDATE cgk.quarantines SET {column} = now() - make_interval(secs => %s)", [seconds])


def test_a_tenant_of_whose_runs_half_failed_is_paused_until_a_time():
    closed(failed=6, completed=6)
    assert look() == ["acme"]
    (one,) = list_pauses()
    assert (one.tenant_id, one.mode, one.paused_by) == ("acme", "hold", "quarantine")
    assert one.reason == "quarantine: 6 of 12 runs failed in 300 s"
    assert one.until - datetime.now(UTC) == pytest.approx(timedelta(minutes=15), abs=timedelta(seconds=20))
    (found,) = list_quarantines()
    assert (found.tenant_id, found.state, found.runs, found.failed) == ("acme", "paused", 12, 6)


@pytest.mark.parametrize(
    "runs",
    [
        {"failed": 4, "completed": 5},  # too few
        {"failed": 5, "completed": 6},  # less than half
        {"failed": 20, "completed": 0, "ago": 400},  # too long ago
        {"failed": 20, "completed": 0, "tenant": "platform"},  # its alerts among them
    ],
)
def test_less_than_that_is_no_reason(runs):
    closed(**runs)
    assert look() == []


def test_it_is_off_unless_it_is_switched_on(setting):
    setting(CGK_QUARANTINE=None)
    closed(failed=20, completed=0)
    assert look() == []


def test_who_is_paused_or_suspended_already_is_left_as_it_is():
    closed(failed=20, completed=0)
    pause(tenant="acme", by="ada", reason="of our own")
    assert look() == []
    resume(tenant="acme")
    suspend_tenant("acme")
    assert look() == []
    resume_tenant("acme")
    assert look() == ["acme"]


def test_it_is_looked_at_once_for_a_tenant():
    closed(failed=20, completed=0)
    assert (look(), look()) == (["acme"], [])


def test_a_run_says_that_its_tenant_is_in_quarantine():
    run = send_job("order.created", ORDER).id
    closed(failed=20, completed=0)
    look()
    gate = next(gate for gate in why(run).gates if gate.code == "paused")
    assert "by quarantine" in gate.text
    assert "20 of 20 runs failed" in gate.text


def test_after_it_the_tenant_has_a_tenth_of_its_weight_and_then_all_of_it():
    set_tenant_limits("acme", weight=4)
    make_lane("acme")
    closed(failed=20, completed=0)
    look()
    assert weight() == {0.4}
    assert end_quarantine("acme", by="ada", reason="their key is valid again")
    look()
    assert weight() == {0.4}
    (one,) = list_quarantines()
    assert one.state == "paced"
    at_once("paced_until")
    look()
    assert weight() == {4}
    assert list_quarantines() == []


def test_a_share_that_is_new_meanwhile_is_paced_too():
    closed(failed=20, completed=0)
    look()
    make_lane("acme", queue="another")
    look()
    assert weight() == {0.1}


def test_what_failed_before_a_release_does_not_count_again():
    closed(failed=20, completed=0)
    look()
    end_quarantine("acme")
    assert look() == []
    assert look() == []
    closed(failed=20, completed=0, ago=-1)
    assert look() == ["acme"]


def test_it_ends_by_itself(setting):
    from cgk_tasks.flow.pauses import end_pauses

    closed(failed=20, completed=0)
    look()
    with autocommit() as connection:
        connection.execute("UPDATE cgk.pauses SET until = now()")
    end_pauses()
    look()
    assert [one.state for one in list_quarantines()] == ["paced"]


def test_without_an_end_it_waits_for_somebody(setting):
    setting(CGK_QUARANTINE_RELEASE_SECONDS="0")
    closed(failed=20, completed=0)
    look()
    assert list_pauses()[0].until is None
    assert list_quarantines()[0].until is None


def test_it_is_forgotten_once_nothing_hangs_on_it():
    closed(failed=20, completed=0)
    look()
    end_quarantine("acme")
    look()
    at_once("paced_until")
    at_once("released_at", 1000)
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.run_history")
    look()
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM cgk.quarantines").fetchone()[0] == 0


def test_operators_are_told_once(setting):
    setting(CGK_ALERTS="tenant_quarantined")
    closed(failed=20, completed=0)
    look()
    assert (AlertWatch().look(), AlertWatch().look()) == (1, 0)
    (run,) = store.listing(event="system.alert", limit=10)
    with autocommit() as connection:
        found = store.find(run.id, connection)
    payload = json.loads(found["payload"]) if isinstance(found["payload"], str) else found["payload"]
    assert payload["title"] == "Tenant acme is in quarantine"
    assert "20 of its last 20 runs failed." in payload["message"]
