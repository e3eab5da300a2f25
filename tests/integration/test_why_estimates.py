"""When a run is expected to start, and what holds a tenant's runs, summed up. No worker lives here."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
import redis
from typer.testing import CliRunner

from cgk_tasks import pause, resume, schedule_job, send_job
from cgk_tasks.admission.passes import Passes
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.cli.program import program
from cgk_tasks.errors import TenantContextError, UnknownTenantError
from cgk_tasks.monitoring.why import why
from cgk_tasks.monitoring.why_tenant import why_tenant
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import tenant_context
from tests.support.lanes import add_worker, hold, make_gate, make_lane

ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}


@pytest.fixture(autouse=True)
def queue(database, services, setting):
    """A queue with ten processes. A run of order.created takes a second."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.workers, cgk.run_times")
        connection.execute("INSERT INTO cgk.run_times (event, mean_seconds) VALUES ('order.created', 1.0)")
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushdb()
    setting(CGK_WINDOW_SECONDS="0.5")
    name = os.environ["CGK_DEFAULT_QUEUE"]
    add_worker(name, 10)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET revision = '9999'")
        connection.execute("INSERT INTO cgk.presence SELECT id FROM cgk.workers")
    current_runtime().drop(SWITCH)
    return name


@pytest.fixture
def passes():
    return Passes(lambda _event: 1.0)


def expected_in(run_id):
    """In how many seconds the run is expected to start."""
    found = why(run_id).expected_at
    return None if found is None else (found - datetime.now(UTC)).total_seconds()


def about(seconds):
    return pytest.approx(seconds, abs=0.5)


def test_a_run_behind_a_limit_waits_for_those_before_it_and_for_a_place(queue, passes):
    gate = make_gate(at_once=2)
    runs = hold(make_lane("acme", gate, queue=queue), 20)
    passes.make()
    held = [run for run in runs if why(run).state == "held"]
    assert expected_in(held[0]) == about(0.5)  # of two places one is free each half second
    assert expected_in(held[10]) == about(5.5)


def test_two_tenants_at_one_limit_take_turns(queue, passes):
    gate = make_gate(at_once=2)
    hold(make_lane("acme", gate, queue=queue), 20)
    others = hold(make_lane("globex", gate, queue=queue), 20)
    passes.make()
    assert expected_in(others[-1]) > 15


def test_a_run_behind_a_throttle_starts_when_its_bucket_has_room(queue, passes):
    gate = make_gate(rate=1, period=10.0, burst=1)
    runs = hold(make_lane("acme", gate, queue=queue), 4)
    passes.make()
    assert [expected_in(run) for run in runs[1:]] == [about(10), about(20), about(30)]


def test_a_run_of_a_crowded_queue_waits_by_the_share_of_its_tenant(queue):
    mine = hold(make_lane("acme", queue=queue), 21)
    alone = expected_in(mine[-1])
    hold(make_lane("globex", queue=queue), 5)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.lanes SET status = 'open'")
        connection.execute("UPDATE cgk.shares SET open_lanes = 1")
    assert (alone, expected_in(mine[-1])) == (about(2), about(4))


def test_a_run_in_the_broker_waits_for_those_before_it(queue):
    sent = [send_job("order.created", ORDER).id for _ in range(4)]
    assert expected_in(sent[0]) == about(0)
    assert expected_in(sent[3]) == about(0.3)


@pytest.mark.parametrize("unknown", ["DELETE FROM cgk.run_times", "UPDATE cgk.workers SET processes = 0"])
def test_nothing_is_said_where_it_is_not_known(queue, passes, unknown):
    runs = hold(make_lane("acme", make_gate(at_once=1), queue=queue), 3)
    passes.make()
    with autocommit() as connection:
        connection.execute(unknown)
    assert expected_in(runs[-1]) is None


def test_nothing_is_said_of_a_run_that_somebody_has_to_let_go(queue):
    run = hold(make_lane("acme", queue=queue))[0]
    pause(tenant="acme")
    try:
        assert expected_in(run) is None
    finally:
        resume(tenant="acme")


def test_nothing_is_said_of_a_run_that_is_not_due():
    later = schedule_job("order.created", ORDER, run_at=datetime.now(UTC) + timedelta(hours=1)).id
    assert expected_in(later) is None


def test_what_holds_a_tenants_runs_is_summed_up(queue, passes):
    gate = make_gate(at_once=1)
    first = hold(make_lane("acme", gate, queue=queue), 30)
    hold(make_lane("globex", gate, queue=queue), 3)
    schedule_job("order.created", ORDER, run_at=datetime.now(UTC) + timedelta(hours=1))
    passes.make()
    found = why_tenant("acme")
    assert found.runs == 31
    by_state = {kind.state: kind for kind in found.kinds}
    assert (by_state["held"].runs, by_state["held"].gates[0].code) == (29, "limit")
    assert by_state["held"].example == first[1]
    assert by_state["held"].expected_at is not None
    assert (by_state["scheduled"].runs, by_state["scheduled"].gates[0].code) == (1, "not_due")
    assert by_state["pending"].runs == 1


def test_the_command_says_what_holds_a_tenants_runs(queue, passes):
    hold(make_lane("acme", make_gate(at_once=1), queue=queue), 5)
    passes.make()
    said = CliRunner().invoke(program, ["why", "--tenant", "acme"])
    assert "acme: 5 open runs" in said.output
    assert f"4 held in queue '{queue}'; the first, " in said.output
    assert "It is over a limit" in said.output
    assert "It is expected to start at about" in said.output
    kinds = json.loads(CliRunner().invoke(program, ["why", "--tenant", "acme", "--json"]).stdout)["kinds"]
    assert [kind["runs"] for kind in kinds] == [4, 1]


def test_a_tenant_without_open_runs_has_nothing_that_holds_it():
    assert why_tenant("initech").kinds == ()


def test_only_a_tenant_that_there_is_can_be_asked_about_and_not_by_another_one():
    with pytest.raises(UnknownTenantError):
        why_tenant("nobody")
    with tenant_context("globex"), pytest.raises(TenantContextError):
        why_tenant("acme")
