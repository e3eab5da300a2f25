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
        Memo("approve", 1, 2, "signal", "waiting", awaits=("approve",), delay_seconds=3600),
    ]
    with transaction() as connection:
        assert steps.suspend(connection, fence_of(run), Wait(memos, "guest"))
    return run.id


def test_steps_are_shown_with_times_and_what_is_waited_for(run_id):
    greeted, approved = run_record(run_id).steps
    assert (greeted.step.state, round(greeted.seconds), approved.seconds) == ("done", 2, None)
    assert (approved.step.awaits, approved.step.until - approved.step.began_at > timedelta(minutes=59)) == (
        ("approve",), True
    )  # fmt: skip
    assert (greeted.begins, approved.begins > greeted.begins) == (0.0, True)


def test_personal_data_is_hidden_in_names_and_results(run_id):
    hidden, shown = run_record(run_id).steps[0].step, run_record(run_id, show_sensitive=True).steps[0].step
    assert (hidden.name, hidden.result) == ("greet-[redacted]", "sent to [redacted]")
    assert SECRET in shown.name
    assert SECRET in shown.result


def test_a_run_without_steps_has_none(database):
    assert run_record(send_job(Guest(tenant_id="acme", email=SECRET), queue="nobody-listens").id).steps == ()
