"""Guards with real workers and a partner that answers over HTTP: few calls while it does not want any, nothing lost."""

import threading
import time

import psutil
import pytest

from cgk_tasks import cancel_job, close_guard, get_job_status, list_guards, open_guard, send_job
from cgk_tasks.monitoring.why import why
from cgk_tasks.sql.postgres import autocommit
from tests.support.guard_jobs import PROBE_SECONDS, AccountCall, Call, Free, OtherCall
from tests.support.receiver import receiving, status
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.slow

MODULES = ["tests.support.guard_jobs"]
PROCESSES = 6


@pytest.fixture(scope="module", autouse=True)
def workers(start_worker):
    return [start_worker(MODULES, concurrency=3), start_worker(MODULES, concurrency=3)]


@pytest.fixture
def partner():
    with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def as_declared():
    """Guards as they are declared, at the begin of each test."""
    wait_until(lambda: {guard.name for guard in list_guards()} >= {"account", "partner"}, what="workers noted them")
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.guard_reports")
    open_guard("partner")
    for tenant in ("acme", "globex"):
        open_guard("account", tenant=tenant)
    yield
    wait_until(none_open, what="what the test has left open is cancelled")


def none_open():
    """Whether no run is left that would call a partner which is gone, in the place of the next test's; cancels them."""
    with autocommit() as connection:
        left = [str(run_id) for (run_id,) in connection.execute("SELECT id FROM cgk.runs").fetchall()]
    for run_id in left:
        cancel_job(run_id)
    return not left


def send(partner, event=Call, tenant="acme", **fields):
    return send_job(event(tenant_id=tenant, url=partner.url("/api"), **fields)).id


def completed(runs):
    closed = [wait_closed(run, 60) for run in runs]
    assert {one.state for one in closed} == {"completed"}
    return closed


def guard(name="partner", **of):
    (found,) = list_guards(name, **of)
    return found


def refusing(partner, seconds, retry_after=3):
    """The partner answers 429 from its first call on, for so long; then 200."""
    until = []

    def answer(handler):
        until.append(time.monotonic() + seconds)
        refuses = time.monotonic() < until[0]
        (status(429, retry_after=str(retry_after)) if refuses else status(200))(handler)

    partner.answers["/api"] = answer


def failing(partner, *, until):
    def answer(handler):
        status(200 if until.is_set() else 500)(handler)

    partner.answers["/api"] = answer


def wait_at_rest():
    """Until the guard is closed, and the calls that had begun before have ended."""
    wait_until(lambda: guard().state != "open", what="the guard is closed")
    running = "SELECT FROM cgk.runs WHERE state = 'running'"
    with autocommit() as connection:
        wait_until(lambda: not connection.execute(running).fetchall(), what="nobody calls")


def test_a_partner_that_asks_to_wait_is_left_alone_and_no_attempt_is_used(partner):
    refusing(partner, 2.5)
    begun = time.monotonic()
    runs = [send(partner, tenant=tenant) for _ in range(30) for tenant in ("acme", "globex")]
    statuses = completed(runs)
    assert time.monotonic() - begun >= 3
    assert {one.attempt for one in statuses} == {1}
    assert {len(one.errors) for one in statuses} == {0}
    # Each process may learn it for itself, and has two in a packet at most; then nobody calls before the time.
    assert len(partner.requests) - len(runs) <= 2 * PROCESSES


def test_a_429_closes_the_guard_and_halves_it(partner):
    refusing(partner, 30, retry_after=30)
    asked = guard().asked
    send(partner)
    closed = wait_until(lambda: one if (one := guard()).state == "closed" else None)
    assert (closed.cause, closed.limit, closed.most, closed.asked - asked) == ("throttled", 4, 8, 1)


def test_a_run_that_comes_to_a_closed_guard_is_held_and_says_so(partner):
    refusing(partner, 30, retry_after=30)
    send(partner)
    wait_until(lambda: guard().state == "closed")
    run = send(partner, OtherCall, "globex")
    wait_state(run, "held")
    (gate,) = wait_until(lambda: [gate for gate in why(run).gates if gate.code == "guard"])
    assert "the guard 'partner' is closed until" in gate.text
    assert "its partner asked to wait" in gate.text
    assert get_job_status(run).attempt == 0
    assert len(partner.requests) == 1


def test_five_failures_in_a_row_close_it_and_one_probe_opens_it(partner):
    well = threading.Event()
    failing(partner, until=well)
    runs = [send(partner) for _ in range(5)]
    wait_at_rest()
    calls = len(partner.requests)
    wait_until(lambda: len(partner.requests) > calls, what="a run tries")
    wait_until(lambda: guard().state == "closed", what="it failed")
    assert len(partner.requests) == calls + 1
    well.set()
    completed(runs)
    wait_until(lambda: guard().state == "open")


def test_a_probe_is_one_run(partner):
    well = threading.Event()
    failing(partner, until=well)
    runs = [send(partner, seconds=0.0) for _ in range(40)]
    wait_at_rest()
    at_work = threading.Event()
    on = []

    def slow(handler):
        on.append(handler)
        at_work.wait(PROBE_SECONDS / 2)
        status(200)(handler)

    partner.answers["/api"] = slow
    wait_until(lambda: on, what="a run tries")
    assert len(on) == 1
    at_work.set()
    completed(runs)


def test_no_more_are_on_than_the_guard_lets_of_two_jobs_and_two_tenants(partner, tmp_path):
    refusing(partner, 0.5, retry_after=1)
    completed([send(partner)])
    wait_until(lambda: guard().limit == 4)
    kinds = [(Call, "acme"), (OtherCall, "acme"), (Call, "globex"), (OtherCall, "globex")] * 4
    runs = [send(partner, event, tenant, path=str(tmp_path), seconds=0.05) for event, tenant in kinds]
    assert max(one.result for one in completed(runs)) <= 5  # a success or two have made it one more


def test_successes_let_more_through_again(partner):
    refusing(partner, 0.5, retry_after=1)
    completed([send(partner)])
    wait_until(lambda: guard().limit == 4)
    completed([send(partner) for _ in range(30)])
    wait_until(lambda: guard().limit > 4)


def test_a_guard_of_one_tenant_leaves_another_alone(partner):
    refusing(partner, 30, retry_after=30)
    send(partner, AccountCall, "acme")
    wait_until(lambda: [one.state for one in list_guards("account", tenant="acme")] == ["closed"])
    partner.answers["/api"] = status(200)
    completed([send(partner, AccountCall, "globex")])
    held = send(partner, AccountCall, "acme")
    wait_state(held, "held")
    open_guard("account", tenant="acme")
    completed([held])


def test_a_guard_that_is_closed_by_hand_holds_its_runs_until_it_is_opened(partner):
    close_guard("partner", by="ada", reason="their maintenance")
    run = send(partner)
    wait_state(run, "held")
    gate = wait_until(lambda: next((gate for gate in why(run).gates if gate.code == "guard"), None))
    assert "closed by ada: their maintenance" in gate.text
    assert not partner.requests
    open_guard("partner", by="ada")
    completed([run])


def test_a_worker_that_is_killed_loses_no_run_of_a_guard(partner, workers):
    refusing(partner, 1.0, retry_after=1)
    runs = [send(partner, seconds=0.02) for _ in range(60)]
    wait_until(lambda: len(partner.requests) > 5)
    for child in workers[0].children():
        child.kill()
    statuses = completed(runs)
    assert {one.attempt - one.deaths for one in statuses} == {1}


def test_jobs_that_use_nothing_go_on_while_a_guard_is_closed(partner):
    close_guard("partner")
    completed([send_job(Free(tenant_id="acme")).id])
    open_guard("partner")


def test_a_whole_worker_that_dies_amid_reports_leaves_the_guard_moving(partner, start_worker):
    worker = start_worker(MODULES, concurrency=2)
    refusing(partner, 1.0, retry_after=1)
    runs = [send(partner, seconds=0.02) for _ in range(60)]
    wait_until(lambda: len(partner.requests) > 5)
    children = worker.children()
    worker.kill()
    for child in children:
        if child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            child.kill()
    completed(runs)
    wait_until(lambda: guard().state == "open")
