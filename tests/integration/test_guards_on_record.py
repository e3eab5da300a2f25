"""Guards in PostgreSQL: what reports make of gates, and what operators do by hand. No worker lives here."""

import os

import pytest

from cgk_tasks import close_guard, get_job_status, limit_history, list_guards, open_guard, send_job
from cgk_tasks.admission.guard_decisions import decide
from cgk_tasks.admission.guard_reports import GUARD_REPORTS, is_refused_here, place_of, refused_here
from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.passes import Passes
from cgk_tasks.admission.rules import guard_rules
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.flow.job_limits import list_limits
from cgk_tasks.jobs.registry import find_job
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs import store
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker import limited
from tests.support.guard_jobs import Call, Free
from tests.support.lanes import claim, finish, ids_of

PARTNER = Guard("partner", 8, probe_after=1.5)


@pytest.fixture(autouse=True)
def empty(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.rules, cgk.gates")
        connection.execute("TRUNCATE cgk.guards, cgk.guard_states, cgk.guard_reports")
    for part in (LANES, SWITCH, GUARD_REPORTS, CROWDED):
        current_runtime().drop(part)
    refused_here.clear()
    note(PARTNER)
    yield
    refused_here.clear()


def note(guard):
    with autocommit() as connection:
        LANES.current().note(connection, guard_rules([guard]))


@pytest.fixture
def passes():
    return Passes(lambda _event: 1.0)


def send(count=1):
    return [send_job(Call(tenant_id="acme", url="http://partner")).id for _ in range(count)]


def saw(*, asked=None, failures=0, successes=0, guard=PARTNER):
    """A process reports so, and the leader hears of it."""
    reports, place = GUARD_REPORTS.current(), place_of(guard, "acme")
    reports._tell_soon = lambda: None
    for _ in range(successes):
        reports.success(place)
    for _ in range(failures):
        reports.failure(place)
    if asked is not None:
        reports.asked_to_wait(place, asked)
    reports.tell()
    return decide()


def gate():
    with autocommit() as connection:
        row = connection.execute("SELECT at_once, rate, opens_at > now() AS is_closed FROM cgk.gates").fetchone()
    return dict(zip(("at_once", "rate", "is_closed"), row, strict=True))


def states():
    with autocommit() as connection:
        return dict(connection.execute("SELECT state, count(*) FROM cgk.runs GROUP BY 1").fetchall())


def test_a_run_that_uses_a_guard_waits_at_its_gate():
    send(10)  # each makes a pass
    assert states() == {"pending": 8, "held": 2}
    assert gate() == {"at_once": 8, "rate": None, "is_closed": None}


def test_what_a_process_saw_moves_the_gate_once_the_leader_has_heard_of_it():
    send()
    assert saw(asked=30) == 1
    assert gate() == {"at_once": 4, "rate": None, "is_closed": True}
    (guard,) = list_guards()
    assert (guard.state, guard.cause, guard.limit, guard.most, guard.asked) == ("closed", "throttled", 4, 8, 1)


def test_nothing_passes_a_closed_gate_and_all_goes_on_when_its_time_has_come(passes):
    finish(send(3))
    saw(asked=30)
    held = send(3)
    assert ids_of(passes.make()) == []
    with autocommit() as connection:
        connection.execute("UPDATE cgk.gates SET opens_at = now()")
    assert sorted(ids_of(passes.make())) == sorted(held)


def test_while_it_fails_one_run_in_a_time_may_try_whoever_makes_the_pass(passes):
    finish(send())
    saw(failures=5)
    held = send(5)
    assert states() == {"held": 5}
    with autocommit() as connection:
        connection.execute("UPDATE cgk.gates SET opens_at = now()")
        connection.execute("UPDATE cgk.guard_states SET opens_at = now()")
    first = ids_of(Passes(lambda _event: 1.0).make())
    assert len(first) == 1
    claim(first)
    finish(first)
    assert ids_of(Passes(lambda _event: 1.0).make()) == []
    saw(successes=1)
    assert sorted(ids_of(passes.make())) == sorted(set(held) - set(first))


def test_a_run_that_was_admitted_before_the_guard_closed_goes_back_to_its_lane(passes):
    (run,) = send()
    saw(asked=30)
    worker = new_run_id()
    claimed = store.claim([run], worker, os.getpid())
    assert limited.hold_limited([run], claimed, lambda _run: [find_job("guards-call")], worker) == []
    status = get_job_status(run)
    assert (status.state, status.attempt) == ("held", 0)


def text_of(run):
    (one,) = [gate for gate in why(run).gates if gate.code == "guard"]
    return one.text


def test_a_run_says_how_many_its_guard_lets_on():
    *_, last = send(9)
    assert "the guard 'partner' lets 8 on at once now, and 8 at most; 0 runs of its lane come before it" in text_of(
        last
    )


def test_a_run_says_that_its_guard_has_failed_and_then_that_one_run_tries(passes):
    finish(send())
    saw(failures=5)
    first, *_, last = send(3)
    assert "(5 runs in a row failed); 2 runs of its lane come before it" in text_of(last)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.gates SET opens_at = now()")
        connection.execute("UPDATE cgk.guard_states SET opens_at = now()")
    assert ids_of(passes.make()) == [first]
    assert "has failed, and lets one run try at a time; 1 run of its lane comes before it" in text_of(last)


def test_reports_of_a_gate_that_is_gone_are_about_nothing():
    send()
    saw()
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.guard_reports (gate_id, successes, others, failures, all_failures, asked, asked_at, until)"
            " VALUES (0, 1, 0, 0, 0, 0, now(), now())"
        )
    assert decide() == 0
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM cgk.guard_reports").fetchone()[0] == 0


def test_successes_of_a_guard_that_is_fully_open_write_nothing():
    send()
    assert saw(successes=50) == 1
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM cgk.guard_states").fetchone()[0] == 0


def test_a_limit_that_is_declared_lower_counts_for_the_gates_that_are_there():
    send()
    current_runtime().drop(LANES)
    note(Guard("partner", 3, probe_after=1.5))
    assert gate()["at_once"] == 3
    saw(asked=0.001)
    current_runtime().drop(LANES)
    note(Guard("partner", 8, probe_after=1.5))
    assert gate()["at_once"] == 1


def test_a_guard_that_becomes_one_per_tenant_is_listed_once():
    note(Guard("partner", 8, "tenant", 1.5))
    assert [guard.per for guard in list_guards()] == ["tenant"]


def test_by_hand_a_guard_is_closed_and_opened_and_that_is_on_record():
    closed = close_guard("partner", by="ada", reason="maintenance")
    assert (closed.state, closed.cause, closed.opens_at, closed.shut_by) == ("closed", "shut", None, "ada")
    assert saw(successes=9) == 1
    assert gate()["is_closed"]
    opened = open_guard("partner", by="bob")
    assert (opened.state, opened.limit) == ("open", 8)
    assert not gate()["is_closed"]
    lines = [(one.action, one.who, one.subject) for one in limit_history(subject="partner")]
    assert lines == [("open guard", "bob", "partner"), ("close guard", "ada", "partner")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "partnr"}, "no worker has such a guard. Did you mean"),
        ({"tenant": "acme"}, "the guard 'partner' is for all"),
    ],
)
def test_what_cannot_be_closed_is_refused(options, said):
    with pytest.raises(InvalidOptionError, match=said):
        close_guard(**{"name": "partner"} | options)


def test_a_guard_per_tenant_is_closed_for_one_of_them():
    note(Guard("account", 2, "tenant"))
    with pytest.raises(InvalidOptionError, match="the guard 'account' is per tenant"):
        close_guard("account")
    assert close_guard("account", tenant="globex").tenant_id == "globex"
    assert [one.tenant_id for one in list_guards("account")] == ["globex"]


def test_the_state_of_a_gate_that_is_gone_is_forgotten_with_it(passes):
    finish(send())
    saw(asked=0.001)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.lanes SET used_at = now() - interval '2 days', status = 'empty'")
        connection.execute("UPDATE cgk.gates SET opens_at = NULL")
    passes.prune()
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM cgk.guard_states").fetchone()[0] == 0


def test_guards_are_no_limits_of_jobs():
    send()
    assert [one.job for one in list_limits() if one.job == "partner"] == []


def test_what_a_process_was_told_itself_counts_for_it_at_once_and_not_for_long(monkeypatch):
    place = place_of(PARTNER, "acme")
    reports = GUARD_REPORTS.current()
    reports._tell_soon = lambda: None
    reports.asked_to_wait(place, 60)
    assert is_refused_here(place)
    later = refused_here[place] + 0.1
    monkeypatch.setattr("cgk_tasks.admission.guard_reports.time.monotonic", lambda: later)
    assert not is_refused_here(place)
    assert not refused_here


def test_a_job_that_uses_nothing_executes_no_statement_of_guards_and_no_more_code():
    send_job(Free(tenant_id="acme"))  # it asks what a process asks now and then
    current_runtime().drop(CROWDED)  # the list has one more now
    heard = []

    def observer(statement, _seconds, _error):
        heard.append(statement.label)

    door.observe(observer)
    try:
        run = send_job(Free(tenant_id="acme")).id
        claimed = store.claim([run], new_run_id(), os.getpid())
        limited.hold_limited([run], claimed, lambda _run: [find_job("guards-free")], str(new_run_id()))
    finally:
        door.forget_observer(observer)
    asked_now_and_then = {"admission.is_on", "schedules.noted_routes", "tenants.get_tenant"}
    assert [label for label in heard if label not in asked_now_and_then] == [
        "transitions.insert_plain", "transitions.claim_one",
    ]  # fmt: skip
    assert find_job("guards-free").around is None


def test_before_the_migration_guards_count_nothing():
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.guards RENAME TO guards_to_come")
    current_runtime().drop(SWITCH)
    current_runtime().drop(LANES)
    try:
        (run,) = send()
        claimed = store.claim([run], new_run_id(), os.getpid())
        jobs = [find_job("guards-call")]
        assert [one.id for one in limited.hold_limited([run], claimed, lambda _run: jobs, str(new_run_id()))] == [run]
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.guards_to_come RENAME TO guards")
        current_runtime().drop(SWITCH)
