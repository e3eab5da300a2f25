"""Pauses of what is all of a queue, a tenant and a job: held or cancelled, wherever the runs are, until it is over."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import (
    SendItem,
    get_job_status,
    list_pauses,
    pause,
    resume,
    send_job,
    send_jobs,
    set_tenant_limits,
)
from cgk_tasks.admission.passes import Passes
from cgk_tasks.errors import InvalidOptionError, UnknownTenantError
from cgk_tasks.flow.queues import pause_queue, paused_queues, resume_queue
from cgk_tasks.monitoring.open_runs import count_open_runs
from cgk_tasks.monitoring.why import why
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.support.jobs import Behave
from tests.support.lanes import open_lanes_are_counted
from tests.support.limits_jobs import Single, Two
from tests.support.waiting import wait_closed, wait_state, wait_until

MODULES = ["tests.support.jobs", "tests.support.limits_jobs"]


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(MODULES, concurrency=2, CGK_RULES_REFRESH_SECONDS="0.2")


@pytest.fixture(autouse=True)
def nothing_paused(setting, worker):
    setting(CGK_RULES_REFRESH_SECONDS="0.2")
    yield
    for one in list_pauses():
        resume(one.queue, tenant=one.tenant_id, job=one.event)
    assert open_lanes_are_counted()


def do(action="echo", argument="x", tenant="acme", **options):
    return send_job(Behave(tenant_id=tenant, action=action, argument=argument), **options).id


@pytest.mark.parametrize(
    "what",
    [
        {"tenant": "acme"},
        {"job": "test.behave"},
        {"tenant": "acme", "job": "test.behave"},
        {"queue": "own", "tenant": "acme"},
        {"queue": "own", "tenant": "acme", "job": "test.behave"},
        {"queue": "own"},
    ],
    ids=",".join,
)
def test_what_is_sent_waits_until_it_is_resumed_and_uses_no_attempt(what):
    what = {name: os.environ["CGK_DEFAULT_QUEUE"] if value == "own" else value for name, value in what.items()}
    pause(**what, by="ada", reason="it is broken")
    run = do()
    held = wait_state(run, "held")
    assert resume(**what)
    assert (held.attempt, wait_closed(run).result, get_job_status(run).attempt) == (0, "x", 1)


@pytest.mark.parametrize(
    "what",
    [{"tenant": "globex"}, {"job": "limits-single"}, {"tenant": "globex", "job": "test.behave"}, {"queue": "q-other"}],
)
def test_what_is_not_all_of_it_goes_on(what):
    pause(**what)
    assert wait_closed(do()).state == "completed"


def test_a_pause_counts_for_what_was_sent_before_wherever_it_is(tmp_path):
    """Some is in the broker behind two long runs, and some is due later."""
    blocking = [do("wait_for_file", str(tmp_path / f"go-{n}"), tenant="globex") for n in range(2)]
    for n in range(2):
        wait_until((tmp_path / f"go-{n}.started").exists)
    waiting = [handle.id for handle in send_jobs([SendItem(Behave(tenant_id="acme", action="echo", argument="x"))] * 5)]
    later = do(delay=0.5)
    pause(tenant="acme", job="test.behave")
    wait_state(later, "held")  # by then all processes know of it
    for n in range(2):
        (tmp_path / f"go-{n}").touch()
    for run in blocking:
        wait_closed(run)
    for run in [*waiting, later]:
        assert wait_state(run, "held").attempt == 0
    resume(tenant="acme", job="test.behave")
    assert {wait_closed(run).state for run in [*waiting, later]} == {"completed"}


def test_what_runs_goes_on(tmp_path):
    path = tmp_path / "go"
    run = do("wait_for_file", str(path))
    wait_until(path.with_suffix(".started").exists)
    pause(tenant="acme")
    path.touch()
    assert wait_closed(run).state == "completed"


def test_runs_of_a_limited_job_and_tenant_keep_their_limits_afterwards(tmp_path):
    set_tenant_limits("acme", at_once=1)
    pause(job="limits-single", tenant="acme")
    runs = [send_job(Single(tenant_id="acme", path=str(tmp_path))).id for _ in range(4)]
    for run in runs:
        wait_state(run, "held")
    resume(job="limits-single", tenant="acme")
    assert {len(wait_closed(run).result) for run in runs} == {1}
    set_tenant_limits("acme", at_once=None)


def test_the_runs_of_an_events_several_jobs_are_held_by_the_event(tmp_path):
    pause(job=Two.event_name)
    run = send_job(Two(tenant_id="acme", path=str(tmp_path))).id
    wait_state(run, "held")
    resume(job=Two.event_name)
    assert wait_closed(run).state == "completed"


def test_a_pause_ends_by_itself():
    made = pause(tenant="acme", until=datetime.now(UTC) + timedelta(seconds=1))
    run = do()
    wait_state(run, "held")
    assert wait_closed(run).started_at >= made.until
    assert list_pauses() == []


def test_a_pause_of_a_queue_ends_by_itself_too():
    queue = os.environ["CGK_DEFAULT_QUEUE"]
    made = pause(queue, until=datetime.now(UTC) + timedelta(seconds=1))
    run = do()
    assert wait_closed(run).started_at >= made.until
    assert paused_queues() == []


def test_what_waits_is_cancelled_if_the_pause_says_so():
    pause(tenant="acme", job="test.behave", mode="drop")
    runs = [do(), do(delay=0.3)]
    closed = [wait_closed(run) for run in runs]
    assert {(run.state, run.error_code, run.attempt) for run in closed} == {("cancelled", "PAUSED", 0)}
    assert wait_closed(do(tenant="globex")).state == "completed"


def test_a_pause_that_holds_becomes_one_that_cancels():
    pause(tenant="acme")
    run = do()
    wait_state(run, "held")
    pause(tenant="acme", mode="drop", reason="they left")
    assert wait_closed(run).error_code == "PAUSED"
    assert [(one.mode, one.reason) for one in list_pauses()] == [("drop", "they left")]


def test_a_whole_queue_is_dropped_and_then_held():
    pause("q-other", mode="drop")
    pause("q-other")
    assert [(one.queue, one.mode) for one in list_pauses()] == [("q-other", "hold")]
    assert [one.queue for one in paused_queues()] == ["q-other"]
    pause("q-other", mode="drop")
    assert ([one.mode for one in list_pauses()], paused_queues()) == (["drop"], [])
    assert [resume("q-other"), resume("q-other"), list_pauses()] == [True, False, []]


def test_a_queue_that_was_paused_the_old_way_is_listed_and_resumed_either_way():
    pause_queue("q-other", by="ops")
    assert [(one.queue, one.paused_by) for one in list_pauses()] == [("q-other", "ops")]
    assert resume("q-other")
    pause("q-other")
    assert resume_queue("q-other")


def test_why_names_the_pause_with_who_and_why():
    pause(tenant="acme", job="test.behave", by="ada", reason="it is broken")
    run = do()
    wait_state(run, "held")
    (gate,) = why(run).gates
    assert gate.code == "paused"
    assert gate.text.startswith("It is paused (tenant acme, event test.behave) by ada since ")
    assert gate.text.endswith(": it is broken.")
    assert gate.hint == "Resume it: cgk-tasks resume --tenant acme --job test.behave"


def test_what_is_paused_is_counted_as_such_and_does_not_wait_for_workers():
    pause(tenant="acme")
    run = do()
    wait_state(run, "held")
    gates = {row["gate"] for row in count_open_runs().groups if row["state"] == "held"}
    assert gates == {"paused"}


def test_who_paused_and_resumed_is_in_the_audit():
    pause(tenant="acme", by="ada", reason="it is broken")
    resume(tenant="acme", by="bob")
    with autocommit() as connection:
        resumed, paused = fetch(connection, "SELECT * FROM cgk.audit ORDER BY id DESC LIMIT 2")
    assert (paused["who"], paused["action"], paused["subject"], paused["message"], paused["tenant_id"]) == (
        "ada", "pause", "tenant acme", "it is broken", "acme",
    )  # fmt: skip
    assert (resumed["who"], resumed["action"], resumed["details"]["old"]["mode"]) == ("bob", "resume", "hold")


def test_a_look_at_paused_lanes_closes_them_and_the_sweep_leaves_them_so():
    pause(tenant="acme")
    runs = [do() for _ in range(3)]
    for run in runs:
        wait_state(run, "held")
    with autocommit() as connection:
        wait_until(lambda: statuses(connection) <= {"empty"})
        Passes({}.get).sweep()
        assert statuses(connection) == {"empty"}


def statuses(connection):
    return {row["status"] for row in fetch(connection, "SELECT status FROM cgk.lanes WHERE tenant_id = 'acme'")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nor are tenant and job"),
        ({"queue": ""}, "1 to 200 printable characters"),
        ({"job": "limits-singel"}, 'Did you mean "limits-single"'),
        ({"job": "limits-two-one"}, "other jobs too: limits-two-free"),
        ({"tenant": "acme", "mode": "stop"}, 'must be "hold" or "drop"'),
        ({"tenant": "acme", "until": datetime.now(UTC) - timedelta(hours=1)}, "which is past. Give a time to come"),
        ({"tenant": "acme", "until": datetime(2030, 1, 1)}, "with a time zone"),  # noqa: DTZ001 - that is the mistake
    ],
)
def test_what_cannot_be_paused_is_refused_and_says_what_can(setting, options, message):
    setting(CGK_JOB_MODULES="tests.support.limits_jobs")
    with pytest.raises(InvalidOptionError, match=message):
        pause(**options)
    assert list_pauses() == []


def test_an_unknown_tenant_is_refused():
    with pytest.raises(UnknownTenantError):
        pause(tenant="nobody")
