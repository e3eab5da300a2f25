"""Actions on all runs that match a search: what they would do, what they do, and that nothing is done twice."""

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import get_job_status, retry_job
from cgk_tasks.dashboard import audit, match_actions
from cgk_tasks.dashboard.data.dead_letters import dead_letter_groups
from cgk_tasks.dashboard.group_actions import begin_group_action
from cgk_tasks.dashboard.long_actions import perform, record
from cgk_tasks.dashboard.match_actions import begin_match_action, plan_of
from cgk_tasks.dashboard.resumed_actions import resume_action
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.accept import unit_of_work
from cgk_tasks.sql.postgres import autocommit, execute, fetch, transaction
from tests.dashboard.sample_runs import id_at
from tests.support.counting import count_all, forget_all_counts
from tests.support.open_transactions import done_meanwhile, locked_runs
from tests.support.waiting import wait_exit, wait_until
from tests.support.workers import ROOT

pytestmark = pytest.mark.usefixtures("empty_record")

OSCAR = User("oscar", "operator")


def ended(number):
    """The line of the audit once the action is over."""

    def look():
        line = audit.lines(action_id=number)[0]
        return line if line.outcome != "begun" else None

    return wait_until(look, 60, f"action {number} ended")


def act(kind, search, pace=1000, **options):
    return ended(begin_match_action(OSCAR, kind, search, pace, **options))


def replays():
    """How often each run was run again."""
    query = (
        "SELECT replay_of::text AS old, count(*) AS times FROM (SELECT replay_of FROM cgk.runs UNION ALL"
        " SELECT replay_of FROM cgk.run_history) AS r WHERE replay_of IS NOT NULL GROUP BY 1"
    )
    with autocommit() as connection:
        return {row["old"]: row["times"] for row in fetch(connection, query)}


def states(ids):
    return {get_job_status(run_id).state for run_id in ids}


def as_if_its_process_died(number):
    """The line of the audit as it is a minute after the process of an action has gone."""
    with autocommit() as connection:
        execute(
            connection,
            "UPDATE cgk.audit SET outcome = 'begun', message = '', abort_requested_at = NULL,"
            " seen_at = now() - interval '2 minutes' WHERE id = %(id)s",
            {"id": number},
        )
    return audit.lines(action_id=number)[0]


@pytest.fixture
def done_in_part(closed_run):
    """A retry of 30 failed runs of globex whose process ended after some of them."""
    runs = [closed_run(tenant="globex") for _ in range(30)]
    number = begin_match_action(OSCAR, "retry", "tenant:globex", 2)
    wait_until(lambda: audit.lines(action_id=number)[0].affected >= 2, 30)
    audit.request_abort(number)
    ended(number)
    return runs, as_if_its_process_died(number)


class TestPlan:
    def test_it_counts_by_state_tenant_and_event_and_does_nothing(self, closed_run):
        for tenant, event, state, times in (
            ("acme", "order.created", "failed", 3),
            ("acme", "payout.completed", "failed", 2),
            ("globex", "order.created", "expired", 1),
        ):
            for _ in range(times):
                closed_run(event, tenant, state)
        plan, _now = plan_of("retry", "since:1h")
        assert (plan.acting, plan.states) == (6, {"failed": 5, "expired": 1})
        assert (plan.by_tenant, plan.tenants) == ({"acme": 5, "globex": 1}, 2)
        assert (plan.by_event, plan.events) == ({"order.created": 4, "payout.completed": 2}, 2)
        assert not plan.is_partial
        assert (replays(), audit.lines()) == ({}, [])

    def test_a_retry_leaves_alone_what_completed_is_open_was_run_again_or_discarded_or_has_a_failed_job(
        self, closed_run, open_run
    ):
        closed_run(state="completed")
        open_run()
        retry_job(closed_run())
        parent = closed_run("payout.completed")
        closed_run("payout.completed", parent_id=parent, job="one-of-two")
        discarded = closed_run("order.fulfilled", payload={"orderId": "o-1", "fulfillmentId": "f-1"})
        group = next(one.group for one in dead_letter_groups() if one.group.event == "order.fulfilled")
        ended(begin_group_action(OSCAR, group, "discard", 1000))
        closed_run(tenant="no-longer")
        plan, _now = plan_of("retry", "since:1h")
        assert plan.left == {"completed": 1, "open": 2, "again": 1, "parent": 1, "discarded": 1, "tenant": 1}
        assert plan.acting == 1
        assert {run.id: verdict for run, verdict in plan.sample}[discarded] == "discarded"

    def test_a_replay_leaves_alone_what_is_open_and_children_of_what_it_replays(self, closed_run, open_run):
        parent = closed_run(state="completed")
        closed_run(state="completed", parent_id=parent, job="one-of-two")
        open_run()
        plan, _now = plan_of("replay", "since:1h")
        assert (plan.acting, plan.left) == (1, {"child": 1, "open": 1})

    def test_a_child_whose_parent_does_not_match_is_replayed(self, closed_run):
        parent = closed_run(state="completed")
        closed_run(state="completed", parent_id=parent, job="one-of-two")
        plan, _now = plan_of("replay", "job:one-of-two")
        assert (plan.acting, plan.left) == (1, {})

    def test_a_cancel_leaves_alone_what_is_closed_or_being_cancelled(self, closed_run, open_run):
        closed_run()
        open_run()
        open_run(state="running", cancel_requested_at=datetime.now(UTC) - timedelta(seconds=1))
        plan, _now = plan_of("cancel", "tenant:acme")
        assert (plan.acting, plan.left) == (1, {"closed": 1, "requested": 1})

    @pytest.mark.parametrize(("kind", "search"), [("retry", "state:open"), ("cancel", "state:failed")])
    def test_states_that_an_action_is_not_for_are_left_alone(self, closed_run, open_run, kind, search):
        closed_run()
        open_run()
        plan, _now = plan_of(kind, search)
        assert (plan.acting, sum(plan.left.values()), plan.sample) == (0, 1, [])

    def test_the_sample_has_the_newest_twenty(self, closed_run):
        sent = [closed_run() for _ in range(25)]
        plan, _now = plan_of("retry", "state:failed")
        assert [run.id for run, _verdict in plan.sample] == sent[:4:-1]

    def test_where_no_index_helps_it_looks_at_some_and_says_so_and_at_all_where_it_is_asked(
        self, closed_run, monkeypatch
    ):
        now = datetime.now(UTC)
        for minutes in range(20):
            at = now - timedelta(minutes=minutes)
            closed_run(run_id=id_at(at), created_at=at)
        forget_all_counts()
        count_all()
        monkeypatch.setattr("cgk_tasks.dashboard.data.matches.LOOKED_AT", 5)
        plan, _now = plan_of("retry", "state:failed")
        assert plan.is_partial
        assert plan.acting < 20
        assert plan.looked_until is not None
        whole, _now = plan_of("retry", "state:failed", of_all=True)
        assert (whole.acting, whole.is_partial, whole.looked_until) == (20, False, None)

    def test_no_more_than_some_are_counted(self, closed_run, monkeypatch):
        monkeypatch.setattr("cgk_tasks.dashboard.data.matches.MOST_PLANNED", 3)
        for _ in range(5):
            closed_run()
        plan, _now = plan_of("retry", "tenant:acme")
        assert (plan.acting, plan.is_partial) == (3, True)


class TestActions:
    def test_a_retry_runs_each_again_once_and_is_on_record_with_the_search(self, closed_run):
        runs = {closed_run(tenant="globex", code="HTTP_502") for _ in range(25)}
        closed_run(code="HTTP_502")
        closed_run(tenant="globex", state="completed")
        line = act("retry", "tenant:globex since:1h")
        assert (line.who, line.role, line.action, line.subject, line.tenant_id, line.outcome) == (
            "oscar", "operator", "retry matches", "tenant:globex since:1h", "globex", "done",
        )  # fmt: skip
        assert (line.expected, line.affected) == (25, 25)
        assert replays() == dict.fromkeys(runs, 1)

    def test_a_cancel_closes_what_waits_and_asks_workers_to_end_what_runs(self, open_run, closed_run):
        waiting = [open_run(), open_run(state="held"), open_run(state="scheduled")]
        busy = open_run(state="running", worker_id="01a20143-39c3-702f-a327-7b42b6a69ad6", attempt=1)
        other = open_run(tenant="globex")
        line = act("cancel", "tenant:acme")
        assert (line.outcome, line.affected, line.message) == ("done", 4, "")
        assert states(waiting) == {"cancelled"}
        assert get_job_status(busy).cancel_requested_at is not None
        assert states([other]) == {"pending"}

    def test_a_replay_runs_completed_ones_again_and_those_that_were_run_again_before(self, closed_run):
        once, before = closed_run(state="completed"), closed_run()
        retry_job(before)
        line = act("replay", "tenant:acme")
        assert (line.outcome, line.affected) == ("done", 2)
        assert replays() == {once: 1, before: 2}

    def test_a_parent_and_its_failed_child_are_one_run_again(self, closed_run):
        parent = closed_run()
        child = closed_run(parent_id=parent, job="one-of-two")
        line = act("retry", "state:failed")
        assert replays() == {child: 1}
        assert line.message == "1 with a job that did not complete, which is a run of its own"

    @pytest.mark.parametrize("kind", ["retry", "replay"])
    def test_to_do_it_again_leaves_alone_what_was_done(self, closed_run, kind):
        runs = {closed_run() for _ in range(5)}
        planned = datetime.now(UTC) - timedelta(seconds=1)
        first, second = (act(kind, "event:order.created", planned=planned) for _ in range(2))
        assert (first.affected, second.affected) == (5, 0)
        assert replays() == dict.fromkeys(runs, 1)

    def test_what_is_sent_or_closed_after_the_beginning_is_not_taken_up(self, closed_run, open_run):
        closed_run(age=-60)
        line = act("retry", "event:order.created")
        assert (line.affected, replays()) == (0, {})

    def test_what_is_sent_between_the_beginning_and_the_first_batch_is_left_alone(self, open_run):
        before = open_run()
        action = match_actions.new_action("cancel", "tenant:acme", 1000)
        later = open_run()
        entry = record(OSCAR, action)
        assert perform(entry, action) == "done"
        assert (states([before]), states([later])) == ({"cancelled"}, {"pending"})
        assert audit.lines(action_id=entry.id)[0].details["left"] == {"later": 1}

    def test_a_run_whose_senders_clock_was_ahead_is_taken_all_the_same(self, open_run):
        ahead = open_run(run_id=id_at(datetime.now(UTC) + timedelta(seconds=20)))
        assert act("cancel", "tenant:acme").affected == 1
        assert states([ahead]) == {"cancelled"}

    def test_it_is_done_at_its_pace(self, closed_run):
        for _ in range(30):
            closed_run()
        line = act("retry", "state:failed", 10)
        assert line.affected == 30
        assert line.seen_at - line.at >= timedelta(seconds=1.9)

    def test_it_can_be_stopped_and_says_how_far_it_came(self, open_run):
        runs = [open_run() for _ in range(30)]
        number = begin_match_action(OSCAR, "cancel", "tenant:acme", 2)
        wait_until(lambda: audit.lines(action_id=number)[0].affected >= 2, 30)
        assert audit.request_abort(number)
        line = ended(number)
        assert (line.outcome, 2 <= line.affected < 30) == ("aborted", True)
        assert len([one for one in runs if get_job_status(one).state == "pending"]) == 30 - line.affected

    def test_runs_of_a_tenant_that_is_gone_are_left_alone(self, closed_run):
        closed_run(tenant="no-longer")
        here = closed_run()
        line = act("retry", "state:failed")
        assert (line.affected, line.message, replays()) == (1, "1 of a tenant that is gone", {here: 1})

    @pytest.mark.parametrize("pace", [0, 1001])
    def test_a_pace_has_limits(self, closed_run, pace):
        with pytest.raises(InvalidOptionError):
            begin_match_action(OSCAR, "retry", "state:failed", pace)
        assert audit.lines() == []

    @pytest.mark.parametrize("typed", ["", "yes"])
    def test_a_search_without_any_term_has_to_be_confirmed(self, closed_run, typed):
        closed_run()
        with pytest.raises(InvalidOptionError, match="every run of every tenant"):
            begin_match_action(OSCAR, "retry", "  ", typed=typed)
        assert (audit.lines(), replays()) == ([], {})

    def test_once_it_is_confirmed_it_is_every_run(self, closed_run):
        runs = {closed_run(), closed_run(tenant="globex")}
        assert act("retry", "", typed="Every run").affected == 2
        assert replays() == dict.fromkeys(runs, 1)


class TestRaces:
    def test_a_run_that_somebody_retried_meanwhile_is_not_retried(self, closed_run):
        runs = [closed_run() for _ in range(20)]
        number = begin_match_action(OSCAR, "retry", "state:failed", 2)
        wait_until(lambda: audit.lines(action_id=number)[0].affected >= 2, 30)
        oldest = runs[0]  # the newest come first
        retry_job(oldest)
        audit.request_abort(number)
        ended(number)
        rest = ended(resume_fast(number))
        assert rest.details["left"] == {"again": 1}
        assert replays() == dict.fromkeys(runs, 1)

    def test_a_run_that_somebody_is_retrying_at_the_moment_is_left_to_them(self, closed_run):
        held, free = closed_run(), closed_run()
        begun, end = threading.Event(), threading.Event()

        def retry_slowly():
            with transaction() as connection, unit_of_work(connection) as unit:
                retry_job(held)
                begun.set()
                end.wait(60)
            unit.publish()

        other = threading.Thread(target=retry_slowly)
        other.start()
        begun.wait(60)
        line = act("retry", "state:failed")
        end.set()
        other.join()
        assert (line.affected, line.message) == (1, "1 run again already")
        assert replays() == {held: 1, free: 1}

    def test_two_people_at_once_retry_nothing_twice(self, closed_run):
        runs = {closed_run() for _ in range(60)}
        numbers = [begin_match_action(OSCAR, "retry", "state:failed", 200) for _ in range(3)]
        assert sum(ended(number).affected for number in numbers) == 60
        assert replays() == dict.fromkeys(runs, 1)

    def test_a_group_of_dead_letters_and_a_search_at_once_retry_nothing_twice(self, closed_run):
        runs = {closed_run() for _ in range(60)}
        group = dead_letter_groups()[0].group
        numbers = [
            begin_match_action(OSCAR, "retry", "state:failed", 200), begin_group_action(OSCAR, group, "retry", 200),
        ]  # fmt: skip
        for number in numbers:
            ended(number)
        assert set(replays().values()) == {1}
        act("retry", "state:failed")  # those that each left to the other
        assert replays() == dict.fromkeys(runs, 1)

    def test_a_run_that_does_not_match_any_more_when_its_turn_comes_is_not_cancelled(self, open_run, monkeypatch):
        run_id, other = open_run(), open_run()
        found = match_actions.matches.next_matches

        def found_and_then_claimed(connection, *arguments):
            matches = found(connection, *arguments)
            with autocommit() as worker:
                execute(
                    worker, "UPDATE cgk.runs SET state = 'running', attempt = 1 WHERE id = %(id)s::uuid", {"id": run_id}
                )
            return matches

        monkeypatch.setattr(match_actions.matches, "next_matches", found_and_then_claimed)
        line = act("cancel", "state:pending")
        assert (line.affected, line.message) == (1, "1 no longer matching")
        assert (states([run_id]), states([other])) == ({"running"}, {"cancelled"})


def resume_fast(number):
    """Resume an action as if its process had died, at a pace that no test waits for."""
    as_if_its_process_died(number)
    with autocommit() as connection:
        execute(
            connection, "UPDATE cgk.audit SET details = details || '{\"pace\": 1000}' WHERE id = %(id)s", {"id": number}
        )
    return resume_action(OSCAR, number)


class TestResuming:
    def test_the_rest_is_done_once_behind_what_was_done(self, done_in_part, closed_run):
        runs, lost = done_in_part
        assert lost.is_lost
        later = closed_run(tenant="globex", age=-1)
        line = ended(resume_fast(lost.id))
        assert (line.action, line.outcome, line.affected) == ("retry matches", "done", 30 - lost.affected)
        assert (line.expected, line.details["resumes"], line.details["until"]) == (
            30 - lost.affected, lost.id, lost.details["until"],
        )  # fmt: skip
        assert replays() == dict.fromkeys(runs, 1)
        assert later not in replays()
        first = audit.lines(action_id=lost.id)[0]
        assert (first.outcome, "oscar resumed it" in first.message, first.affected) == ("failed", True, lost.affected)
        assert resume_action(OSCAR, lost.id) is None

    def test_it_begins_behind_the_stored_position(self, done_in_part):
        _runs, lost = done_in_part
        line = ended(resume_fast(lost.id))
        assert line.details.get("left", {}) == {}

    def test_what_was_taken_over_stops_at_its_next_batch_and_that_does_not_count(self, closed_run):
        runs = [closed_run() for _ in range(20)]
        action = match_actions.new_action("retry", "state:failed", 1000)
        entry = record(OSCAR, action)
        as_if_its_process_died(entry.id)
        rest = ended(resume_fast(entry.id))
        assert perform(entry, action) == "failed"
        assert rest.affected == 20
        assert replays() == dict.fromkeys(runs, 1)
        assert "resumed it" in audit.lines(action_id=entry.id)[0].message

    def test_a_process_that_is_killed_amid_it_leaves_what_another_resumes_and_nothing_is_lost_or_doubled(
        self, closed_run
    ):
        runs = [closed_run() for _ in range(60)]
        script = (
            "from cgk_tasks.dashboard.long_actions import perform, record\n"
            "from cgk_tasks.dashboard.match_actions import new_action\n"
            "from cgk_tasks.dashboard.roles import User\n"
            "action = new_action('retry', 'state:failed', 10)\n"
            "perform(record(User('ada', 'admin'), action), action)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)})
        try:
            number = wait_until(
                lambda: next((line.id for line in audit.lines() if line.affected >= 10), None), 60, "some are done"
            )
        finally:
            process.send_signal(signal.SIGKILL)
            wait_exit(process)
        assert audit.lines(action_id=number)[0].outcome == "begun"
        done = len(replays())
        rest = ended(resume_fast(number))
        assert (rest.outcome, rest.affected) == ("done", 60 - done)
        assert audit.lines(action_id=number)[0].affected == done
        assert replays() == dict.fromkeys(runs, 1)


def test_a_run_that_an_open_transaction_has_locked_is_left_alone_and_the_others_are_cancelled(open_run):
    locked, *others = (open_run() for _ in range(4))
    with locked_runs(locked):
        line = done_meanwhile(act, "cancel", "tenant:acme")
    assert (line.outcome, line.affected, line.message) == ("done", 3, "1 locked by an open transaction")
    assert (states(others), states([locked])) == ({"cancelled"}, {"pending"})


def test_ctrl_c_at_a_terminal_stops_it_and_the_audit_says_so(closed_run):
    for _ in range(60):
        closed_run()
    command = [sys.executable, "-m", "cgk_tasks.cli", "runs", "retry", "--matching", "state:failed", "--rate", "5"]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - before anything else runs
    )  # fmt: skip
    try:
        wait_until(lambda: any(line.affected >= 5 for line in audit.lines()), 60, "some are done")
        process.send_signal(signal.SIGINT)
        assert wait_exit(process, 60) == 1
    finally:
        process.kill()
    (line,) = audit.lines()
    assert (line.via, line.outcome, line.message) == ("cli", "aborted", "interrupted at the terminal")
    assert line.affected == len(replays())
