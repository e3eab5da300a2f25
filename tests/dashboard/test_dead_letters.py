"""Dead letters: what is one, how they are grouped, and what is done with a whole group."""

import pytest

from cgk_tasks import retry_job
from cgk_tasks.dashboard import audit, group_actions
from cgk_tasks.dashboard.data.dead_letters import (
    Group,
    count_group,
    dead_letter_groups,
    dead_letters,
)
from cgk_tasks.dashboard.data.run_search import RunFilter, find_runs
from cgk_tasks.dashboard.resumed_actions import resume_action
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("empty_record")

OSCAR = User("oscar", "operator")


def only_group(tenant="") -> Group:
    (found,) = dead_letter_groups(tenant)
    return found.group


def ended(number):
    """The line of the audit once the action is over."""

    def look():
        line = audit.lines(action_id=number)[0]
        return line if line.outcome != "begun" else None

    return wait_until(look, 30, "group action ended")


def replays():
    with autocommit() as connection:
        return {
            row["old"]
            for row in fetch(connection, "SELECT replay_of::text AS old FROM cgk.runs WHERE replay_of IS NOT NULL")
        }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 cannot be done", "order 99812 cannot be done"),
        ("no file 'a.csv'", "no file 'b.csv'"),
        ('no key "x"', 'no key "y"'),
        ("run 01a20143-39c3-702f-a327-7b42b6a69ad6 lost", "run 01a20144-0000-702f-a327-7b42b6a69ad7 lost"),
        ("timeout after 30.5s", "timeout after 31s"),
    ],
)
def test_errors_that_differ_in_ids_and_numbers_are_one_group(closed_run, one, other):
    closed_run(message=one)
    closed_run(message=other, tenant="globex")
    (group,) = dead_letter_groups()
    assert (group.runs, group.tenants) == (2, 2)


def test_another_message_code_or_event_is_another_group(closed_run):
    closed_run()
    closed_run(message="something else")
    closed_run(code="TIMEOUT")
    closed_run("payout.completed")
    assert len(dead_letter_groups()) == 4


def test_a_run_that_was_retried_is_no_dead_letter(closed_run):
    retry_job(closed_run())
    assert dead_letter_groups() == []


def test_a_parent_whose_child_failed_is_none_but_the_child_is(closed_run):
    parent = closed_run(message="")
    child = closed_run(parent_id=parent, job="a-job")
    letters, _next = dead_letters(only_group())
    assert [letter.id for letter in letters] == [child]


def test_the_groups_of_one_tenant(closed_run):
    closed_run()
    closed_run(tenant="globex")
    assert dead_letter_groups("globex")[0].runs == 1
    assert count_group(only_group("globex")) == (1, 1)
    assert dead_letter_groups("initech") == []


def test_the_message_of_a_group_has_no_personal_data(closed_run):
    closed_run(
        "customer.created",
        message="no mail to ada@example.com",
        payload={"customerId": "c", "email": "ada@example.com"},
    )
    assert dead_letter_groups()[0].message == "no mail to [redacted]"


def test_a_group_resumes_from_page_to_page(closed_run):
    runs = [closed_run(age=age) for age in range(5)]
    first, key = dead_letters(only_group(), limit=3)
    second, end = dead_letters(only_group(), key, limit=3)
    assert [letter.id for letter in first + second] == runs
    assert end is None


def test_retrying_a_group_runs_each_again_once_and_is_on_record(closed_run):
    runs = {closed_run(message=f"order {number}", tenant=("acme", "globex")[number % 2]) for number in range(25)}
    closed_run(message="something else")
    group = next(one.group for one in dead_letter_groups() if one.runs == 25)
    line = ended(group_actions.begin_group_action(OSCAR, group, "retry", 1000))
    assert (line.who, line.action, line.subject, line.outcome) == (
        "oscar",
        "retry dead letters",
        "order.created",
        "done",
    )
    assert (line.expected, line.affected) == (25, 25)
    assert replays() == runs
    assert [one.runs for one in dead_letter_groups()] == [1]


def test_retrying_one_tenants_part_leaves_the_others(closed_run):
    mine = closed_run(tenant="globex")
    closed_run()
    ended(group_actions.begin_group_action(OSCAR, only_group("globex"), "retry", 1000))
    assert replays() == {mine}


def test_two_people_at_once_retry_nothing_twice(closed_run):
    runs = {closed_run(message=f"order {number}") for number in range(60)}
    group = only_group()
    numbers = [group_actions.begin_group_action(OSCAR, group, "retry", 50) for _ in range(3)]
    assert sum(ended(number).affected for number in numbers) == 60
    assert replays() == runs
    assert len(find_runs(RunFilter(state="pending"), limit=200).runs) == 60


def test_discarding_a_group_keeps_its_runs_in_the_history(closed_run):
    runs = {closed_run(message=f"order {number}") for number in range(7)}
    line = ended(group_actions.begin_group_action(OSCAR, only_group(), "discard", 1000))
    assert (line.outcome, line.affected) == ("done", 7)
    assert dead_letter_groups() == []
    assert {run.id for run in find_runs(RunFilter(state="failed")).runs} == runs


def test_an_action_can_be_stopped_and_says_how_far_it_came(closed_run):
    for number in range(30):
        closed_run(message=f"order {number}")
    number = group_actions.begin_group_action(OSCAR, only_group(), "discard", 2)
    wait_until(lambda: audit.lines(action_id=number)[0].affected >= 2)
    assert audit.request_abort(number)
    line = ended(number)
    assert line.outcome == "aborted"
    assert 2 <= line.affected < 30
    assert count_group(Group("order.created", line.details["fingerprint"]))[0] == 30 - line.affected
    assert not audit.request_abort(number)


@pytest.fixture
def lost(closed_run):
    """A discard of 30 runs whose dashboard ended after some of them."""
    for number in range(30):
        closed_run(message=f"order {number}")
    number = group_actions.begin_group_action(OSCAR, only_group(), "discard", 2)
    wait_until(lambda: audit.lines(action_id=number)[0].affected >= 2)
    audit.request_abort(number)
    ended(number)
    as_if_begun = (
        "UPDATE cgk.audit SET outcome = 'begun', abort_requested_at = NULL, seen_at = now() - interval '2 minutes' "
        "WHERE id = %s"
    )
    with autocommit() as connection:
        connection.execute(as_if_begun, (number,))
    return audit.lines(action_id=number)[0]


def test_an_action_whose_dashboard_is_gone_resumes_with_the_rest_once(lost, closed_run):
    assert lost.is_lost
    later = closed_run(message="order 99", age=-1)
    number = resume_action(OSCAR, lost.id)
    line = ended(number)
    assert (line.action, line.outcome, line.affected) == ("discard dead letters", "done", 30 - lost.affected)
    assert [letter.id for letter in dead_letters(only_group())[0]] == [later]
    assert (line.expected, line.details["pace"], line.details["resumes"]) == (30 - lost.affected, 2, lost.id)
    first = audit.lines(action_id=lost.id)[0]
    assert (first.outcome, "oscar resumed it" in first.message, first.affected) == ("failed", True, lost.affected)
    assert resume_action(OSCAR, lost.id) is None


def test_what_is_under_way_or_over_cannot_go_on(closed_run):
    for number in range(10):
        closed_run(message=f"order {number}")
    number = group_actions.begin_group_action(OSCAR, only_group(), "discard", 2)
    assert resume_action(OSCAR, number) is None
    audit.request_abort(number)
    ended(number)
    assert resume_action(OSCAR, number) is None


def test_runs_of_a_tenant_that_is_gone_stay_and_are_counted(closed_run):
    closed_run(tenant="no-longer")
    here = closed_run()
    line = ended(group_actions.begin_group_action(OSCAR, only_group(), "retry", 1000))
    assert (line.outcome, line.affected, line.message) == ("done", 1, "1 could not be run again")
    assert replays() == {here}


@pytest.mark.parametrize("pace", [0, -1, 1001])
def test_a_pace_has_limits(closed_run, pace):
    closed_run()
    with pytest.raises(InvalidOptionError):
        group_actions.begin_group_action(OSCAR, only_group(), "retry", pace)
    assert audit.lines() == []
