"""The steps of a workflow on the page of its run."""

from datetime import timedelta
from typing import Annotated

import pytest

from cgk_tasks import send_job
from cgk_tasks.dashboard.data.run_record import run_record
from cgk_tasks.events import Sensitive, TenantEvent
from cgk_tasks.runs import steps
from cgk_tasks.runs.steps import Memo, Wait
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.worker.steps import fence_of
from tests.support.claims import claim_here

SECRET = "ada.secret@example.com"


class Guest(TenantEvent, event="test.guest"):
    email: Annotated[str, Sensitive()]


@pytest.fixture
def run_id(database):
    """A run that has done a step and waits for two things."""
    run = claim_here(send_job(Guest(tenant_id="acme", email=SECRET), queue="nobody-listens").id)
    memos = [
        Memo("$begin", 1, 0, "begin", "begun", '{"version": 1}'),
        Memo(f"greet-{SECRET}", 1, 1, "step", "done", f'"sent to {SECRET}"', seconds=2.0),
        Memo("approve", 1, 2, "signal", "waiting", awaits=("approve", f"ok-{SECRET}"), delay_seconds=3600),
    ]
    with transaction() as connection:
        assert steps.suspend(connection, fence_of(run), Wait(memos, "guest"))
    return run.id


@pytest.fixture
def long_run(database):
    """A run that has done 1,000 steps, one of which failed, and waits."""
    run = claim_here(send_job(Guest(tenant_id="acme", email=SECRET), queue="nobody-listens").id)
    memos = [
        Memo(f"s{nth}", 1, nth, "step", "failed" if nth == 500 else "done", '"ok"', seconds=0.1)
        for nth in range(1, 1001)
    ]
    with transaction() as connection:
        wait = Memo("approve", 1, 1001, "signal", "waiting", awaits=("approve",), delay_seconds=3600)
        assert steps.suspend(connection, fence_of(run), Wait([*memos, wait], "guest"))
    return run.id


def test_steps_are_shown_with_times_and_what_is_waited_for(run_id):
    greeted, approved = [entry for entry in run_record(run_id).waterfall.entries if entry.step is not None]
    assert (greeted.state, round(greeted.seconds), approved.seconds) == ("done", 2, None)
    step = approved.step
    assert (step.awaits, step.until - step.began_at > timedelta(minutes=59)) == (("approve", "ok-[redacted]"), True)
    assert "Waits for approve, ok-[redacted] since" in approved.detail


def test_personal_data_is_hidden_in_names_results_and_the_picture(run_id):
    hidden, shown = run_record(run_id), run_record(run_id, show_sensitive=True)
    assert (hidden.steps[0].name, hidden.steps[0].result) == ("greet-[redacted]", "sent to [redacted]")
    assert SECRET not in hidden.waterfall.picture
    assert SECRET in shown.steps[0].name
    assert SECRET in shown.steps[0].result
    assert SECRET in shown.waterfall.picture


def test_of_very_many_steps_the_page_has_some_and_says_so(long_run, dashboard):
    record = run_record(long_run)
    names = {step.name for step in record.steps}
    assert len(names) == 81
    assert {"s1", "s500", "s1000", "approve"} <= names
    text = dashboard.browser("viola").open(f"/runs/{long_run}").text
    assert "920 in the middle that ended well are left out" in text
    assert "s777" not in text


def test_all_of_them_are_there_for_who_asks(long_run, dashboard):
    text = dashboard.browser("viola").open(f"/runs/{long_run}?steps=all").text
    assert "s777" in text
    assert "are left out. <a" not in text


def test_a_replay_begins_at_the_step_that_was_chosen(long_run):
    chosen = next(step for step in run_record(long_run).steps if step.name == "s990")
    assert chosen.number == 990


def test_a_run_without_steps_has_none(database):
    assert run_record(send_job(Guest(tenant_id="acme", email=SECRET), queue="nobody-listens").id).steps == ()
