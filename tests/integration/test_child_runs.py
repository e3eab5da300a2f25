"""Runs that workflows invoke, with real workers: every kind of end comes to the parent, once."""

import threading

import pytest

from cgk_tasks import cancel_run, get_run, send_job
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs import ends, insertion, invoked, steps, store
from cgk_tasks.runs.ends import Closing
from cgk_tasks.runs.invoked import mail_of
from cgk_tasks.runs.steps import Memo, Suspension, Wait
from cgk_tasks.sql.postgres import autocommit, fetch, transaction
from cgk_tasks.worker.ending_workflows import close_with_children
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.recovery import reclaim
from cgk_tasks.worker.steps import fence_of
from cgk_tasks.worker.suspending import suspend
from cgk_tasks.workflows.children import child_id
from tests.integration.child_jobs import BrokenFair, Fair, Nest, Stall
from tests.support.claims import claim_here
from tests.support.waiting import wait_closed, wait_until


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.integration.child_jobs"], CGK_MAX_DEATHS="1")


def held(**fields):
    return send_job(Fair(tenant_id="acme", **fields)).id


def stalls_of(run_id, number=3):
    return [child_id(run_id, "stalls", 1, one) for one in range(number)]


def children_of(run_id):
    """All runs that have it as their parent, in any state."""
    return store.listing(parent_id=run_id, limit=2000)


def test_gathered_children_give_their_results_in_order(worker):
    run_id = held(number=3)
    run = wait_closed(run_id)
    assert (run.result, run.attempt, sorted(one.id for one in children_of(run_id))) == (
        [0, 10, 20], 2, sorted(stalls_of(run_id))
    )  # fmt: skip


ENDS = [
    ("fail", "SOLD_OUT"), ("die", "POISON_PILL"), ("expire", "EXPIRED"), ("unserved", "NO_JOB"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "code"), ENDS)
def test_however_a_child_ends_its_parent_is_told(worker, how, code):
    run = wait_closed(held(number=3, how=how, on_failure="continue"), 40)
    assert (run.result, run.attempt) == ([code, 10, 20], 2)


def test_a_child_that_is_cancelled_is_told(worker):
    run_id = held(number=2, how="late", on_failure="continue")
    first, second = stalls_of(run_id, 2)
    wait_until(lambda: children_of(run_id))
    wait_closed(second)
    cancel_run(first)
    assert wait_closed(run_id).result == ["CHILD_CANCELLED", 10]


def test_the_first_failure_cancels_the_others(worker):
    run_id = held(number=2, how="fail", is_last_late=True)
    run = wait_closed(run_id)
    assert (run.error_code, get_run(stalls_of(run_id, 2)[1]).state) == ("SOLD_OUT", "cancelled")


def test_a_failed_workflow_is_a_dead_letter_beside_the_child_that_failed(worker):
    run_id = held(number=1, how="fail")
    wait_closed(run_id)
    with autocommit() as connection:
        rows = fetch(connection, "SELECT id::text FROM cgk.dead_letters WHERE id = %(id)s", {"id": run_id})
    assert rows == [{"id": run_id}]


def test_a_cancelled_parent_takes_children_and_grandchildren_with_it(worker):
    run_id = send_job(Nest(tenant_id="acme", depth=2, delay=3600)).id
    below = child_id(run_id, "below", 1, 0)
    wait_until(lambda: children_of(below))
    cancel_run(run_id)
    assert [get_run(one).state for one in (run_id, below, child_id(below, "below", 1, 0))] == ["cancelled"] * 3


BREAKS = [({}, "NO_TENT"), ({"undoes": True}, "NO_TENT"), ({"dies": True}, "POISON_PILL")]


@pytest.mark.parametrize(("wishes", "code"), BREAKS)
def test_a_workflow_that_fails_takes_its_open_children_with_it(worker, wishes, code):
    run_id = send_job(BrokenFair(tenant_id="acme", **wishes)).id
    run, late = wait_closed(run_id, 40), child_id(run_id, "late", 1, 0)
    assert (run.state, run.error_code, wait_closed(late).state) == ("failed", code, "cancelled")


def test_a_running_child_of_a_cancelled_parent_is_interrupted(worker, tmp_path):
    run_id = held(number=1, how="wait", notes=str(tmp_path / "go"))
    (only,) = stalls_of(run_id, 1)
    wait_until(lambda: children_of(run_id) and get_run(only).state == "running")
    cancel_run(run_id)
    assert [wait_closed(one).state for one in (run_id, only)] == ["cancelled", "cancelled"]


def test_a_waiting_parent_holds_no_place_of_a_limit(worker):
    """Only one run of the workflow may be on, and it invokes itself."""
    assert wait_closed(send_job(Nest(tenant_id="acme", depth=3)).id, 40).result == 3


def test_why_says_that_it_waits_for_child_runs(worker):
    run_id = held(number=2, how="late")
    wait_until(lambda: get_run(run_id).state == "scheduled")
    (gate,) = why(run_id).gates
    assert (gate.code, gate.text) == ("workflow_waits", "Its workflow waits for 2 child runs of stalls.")
    cancel_run(run_id)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fail", "wait", "continue"])
def test_a_thousand_children_wake_their_parent_once(worker, policy):
    run = wait_closed(held(number=1000, on_failure=policy), 120)
    assert (run.result, run.attempt) == ([number * 10 for number in range(1000)], 2)


# Locks: the end of a child, and its parent that is being left


@pytest.fixture
def parent(database):
    """A run that this process holds."""
    return claim_here(send_job(Fair(tenant_id="acme"), queue="nobody-listens").id)


def child_of(run, number=0):
    origin = Origin(run_id=child_id(run.id, "stalls", 1, number), parent_id=run.id)
    payload = Stall(tenant_id="acme").to_json().decode()
    return new_run("test.stall", "acme", payload, SendOptions(queue="nobody-listens"), origin)


def wait_for(children, wakes="all"):
    return Memo("stalls", 1, 1, "gather", "waiting", awaits=tuple(mail_of(one.id) for one in children), wakes=wakes)


def leave(run, children, wakes="all"):
    return suspend(run, "fair", Suspension((wait_for(children, wakes),), children=tuple(children)), 5)


def close(connection, run, state="completed"):
    return ends.finish(connection, worker_id(), [Closing(run.id, run.tenant_id, run.attempt, state, "stall", "1")])


def leave_in(connection, run, children):
    """As `leave`, of children that are there already, in a transaction that stays open."""
    assert steps.suspend(connection, fence_of(run), Wait([wait_for(children)], "fair"))
    return invoked.wake_at_once(connection, run.id, [("stalls", 1, False)])


def blocked(connection):
    """Whether somebody waits for a lock that this transaction holds."""
    statement = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    return connection.execute(statement).fetchone()[0]


def test_a_parent_that_is_left_while_its_child_ends_is_woken(parent):
    child, woken = child_of(parent), []
    with autocommit() as connection:
        insertion.insert(connection, [child], {})
    held = claim_here(child.id)

    def wait():
        with transaction() as connection:
            woken.extend(leave_in(connection, parent, [child]))

    waiting = threading.Thread(target=wait)
    with transaction() as connection:
        close(connection, held)
        waiting.start()
        wait_until(lambda: blocked(connection))
    waiting.join()
    assert ([one.id for one in woken], get_run(parent.id).state) == ([parent.id], "pending")


def test_a_child_that_ends_while_its_parent_is_left_wakes_it(parent):
    child = child_of(parent)
    with autocommit() as connection:
        insertion.insert(connection, [child], {})
    held = claim_here(child.id)

    def end():
        with transaction() as own:
            close(own, held)

    ending = threading.Thread(target=end)
    with transaction() as connection:
        assert not leave_in(connection, parent, [child])
        ending.start()
        wait_until(lambda: blocked(connection))
    ending.join()
    assert get_run(parent.id).state == "pending"


def test_a_parent_waits_until_the_last_of_several_has_ended(parent):
    children = [child_of(parent, number) for number in range(2)]
    assert leave(parent, children)
    for child, state in zip(children, ("scheduled", "pending"), strict=True):
        held = claim_here(child.id)
        with transaction() as connection:
            close(connection, held)
        assert get_run(parent.id).state == state


def test_a_failure_wakes_a_parent_that_stops_at_the_first(parent):
    children = [child_of(parent, number) for number in range(2)]
    assert leave(parent, children, "first_failure")
    held = claim_here(children[1].id)
    with transaction() as connection:
        close(connection, held, "failed")
    assert get_run(parent.id).state == "pending"


def test_a_workflow_that_fails_while_its_child_ends_waits_for_that(parent):
    """Both lock the child first: neither can hold what the other one waits for."""
    child = child_of(parent)
    with autocommit() as connection:
        insertion.insert(connection, [child], {})
    held, failed = claim_here(child.id), Closing(parent.id, "acme", parent.attempt, "failed", "fair", None, None, "X")

    failing = threading.Thread(target=lambda: close_with_children(worker_id(), failed, lambda _closed: None, 5))
    with transaction() as connection:
        connection.execute("SELECT FROM cgk.runs WHERE id = %s FOR UPDATE", [child.id])
        failing.start()
        wait_until(lambda: blocked(connection))
        connection.execute("SELECT FROM cgk.runs WHERE id = %s FOR UPDATE NOWAIT", [parent.id])
        close(connection, held)
    failing.join()
    assert [get_run(one.id).state for one in (parent, child)] == ["failed", "completed"]


def test_an_attempt_that_has_lost_its_run_invokes_nothing(parent):
    reclaim(worker_id(), [parent.id], reason="the test")
    assert not leave(parent, [child_of(parent)])
    assert children_of(parent.id) == []


def test_an_end_counts_once_for_a_parent_that_is_cancelled_meanwhile(parent):
    child = child_of(parent)
    assert leave(parent, [child])
    held = claim_here(child.id)
    cancel_run(parent.id)
    with transaction() as connection:
        close(connection, held)
    assert get_run(parent.id).state == "cancelled"
