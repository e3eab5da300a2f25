"""Limits that are set for tenants and jobs while workers run: kept within moments, also for what was sent before."""

from collections import Counter

import pytest

from cgk_tasks import SendItem, get_job_status, send_job, send_jobs, set_limit, set_tenant_limits
from cgk_tasks.admission.rules import AtOnce
from cgk_tasks.sql.postgres import autocommit
from tests.support.limits_jobs import Single, Two, Work
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.slow  # they start workers, or kill them

MODULES = ["tests.support.limits_jobs"]
REFRESH = {"CGK_RULES_REFRESH_SECONDS": "0.2"}


@pytest.fixture(scope="module", autouse=True)
def workers(start_worker):
    return [start_worker(MODULES, concurrency=3, **REFRESH), start_worker(MODULES, concurrency=3, **REFRESH)]


@pytest.fixture(autouse=True)
def nothing_set(setting, workers):
    setting(CGK_RULES_REFRESH_SECONDS="0.2")
    yield
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.tenant_limits, cgk.job_limits")
        connection.execute("UPDATE cgk.flow_changes SET version = version + 1")
        connection.execute("UPDATE cgk.gates SET at_once = 1000 WHERE at_once IS NOT NULL")


def send(tmp_path, event=Work, tenant="acme", **fields):
    return send_job(event(tenant_id=tenant, path=str(tmp_path), **fields)).id


def results(runs):
    closed = [wait_closed(run, 60) for run in runs]
    assert {status.state for status in closed} == {"completed"}
    return [status.result for status in closed]


def test_runs_of_all_jobs_of_a_tenant_together_are_no_more_than_it_may(tmp_path):
    set_tenant_limits("acme", at_once=1)
    events = (Work, Single) * 5
    runs = [send(tmp_path, event, shop_id=f"s{n}", seconds=0.05) for n, event in enumerate(events)]
    others = [send(tmp_path, Single, "globex", seconds=0.05)]
    assert {sum(name.startswith("acme.") for name in on) for on in results(runs)} == {1}
    assert results(others)
    assert {get_job_status(run).attempt for run in runs} == {1}


def test_a_child_of_an_event_with_several_jobs_takes_a_place_and_its_parent_none(tmp_path):
    set_tenant_limits("acme", at_once=1)
    runs = [send(tmp_path, Two, seconds=0.02) for _ in range(3)]
    assert {len(result["limits-two-one"]) for result in results(runs)} == {1}


def test_the_place_of_a_process_that_is_killed_is_free_again(tmp_path):
    set_tenant_limits("acme", at_once=1)
    runs = [send(tmp_path, action="die once", shop_id=f"s{n}", seconds=0.05) for n in range(3)]
    assert {sum(name.startswith("acme.") for name in on) for on in results(runs)} == {1}
    assert sorted(get_job_status(run).deaths for run in runs) == [0, 0, 1]


def test_a_first_limit_counts_for_runs_that_were_sent_before(tmp_path):
    """They are in the broker, without a lane."""
    blocking = [send(tmp_path, action="wait", shop_id=f"b{n}", tenant="globex") for n in range(2)]
    items = [SendItem(Two(tenant_id="initech", path=str(tmp_path), seconds=0.05)) for _ in range(20)]
    handles = send_jobs(items)
    set_tenant_limits("initech", at_once=1)
    (tmp_path / "go").touch()
    results(blocking)
    wait_until(lambda: get_job_status(handles[0].id).is_closed)
    seen = Counter(len(result["limits-two-one"]) for result in results([handle.id for handle in handles])[6:])
    assert set(seen) == {1}


def test_a_limit_of_a_job_is_lowered_and_raised_while_it_runs(tmp_path):
    set_limit("limits-single", AtOnce(3), tenant="acme")
    runs = [send(tmp_path, Single, action="wait") for _ in range(5)]
    on = set(wait_until(lambda: three_on(tmp_path), what="three are on"))
    set_limit("limits-single", AtOnce(1), tenant="acme")
    (tmp_path / "go").touch()
    results(on)
    assert {len(on) for on in results([run for run in runs if run not in on])} == {1}


def three_on(tmp_path):
    names = [path.name.rsplit(".", 1)[1] for path in tmp_path.glob("acme.*")]
    return names if len(names) == 3 else None


def test_a_run_says_that_the_tenants_limit_holds_it(tmp_path):
    from cgk_tasks.monitoring.why import why

    set_tenant_limits("acme", at_once=1)
    first = send(tmp_path, Single, action="wait")
    wait_until(lambda: list(tmp_path.glob(f"*.{first}")))
    second = send(tmp_path, Work, shop_id="other")
    wait_state(second, "held")
    (gate,) = wait_until(lambda: [gate for gate in why(second).gates if gate.code == "limit"])
    (tmp_path / "go").touch()
    results([first, second])
    assert "tenant acme: 1 at once, of all jobs" in gate.text
    assert "cgk-tasks tenants limits acme" in gate.hint
