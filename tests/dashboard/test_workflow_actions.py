"""What can be done to a workflow on the page of its run: signals and replays from a step."""

import json
from typing import Annotated

import pytest

from cgk_tasks import get_run, send_job
from cgk_tasks.dashboard import audit
from cgk_tasks.events import Sensitive, TenantEvent
from cgk_tasks.runs import ends, steps
from cgk_tasks.runs.ends import Closing
from cgk_tasks.runs.sealing import opened
from cgk_tasks.runs.shown_steps import steps_of
from cgk_tasks.runs.steps import Memo, Wait
from cgk_tasks.sql.postgres import autocommit, fetch, transaction
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.steps import fence_of
from tests.dashboard.dashboard_support import actions
from tests.support.claims import claim_here

SECRET = "ada.secret@example.com"
BEGIN = Memo("$begin", 1, 0, "begin", "begun", '{"version": 1}')
GREETED = Memo(f"greet-{SECRET}", 1, 1, "step", "done", '"sent"')


class Caller(TenantEvent, event="test.caller"):
    email: Annotated[str, Sensitive()]


def claimed():
    return claim_here(send_job(Caller(tenant_id="acme", email=SECRET), queue="nobody-listens").id)


@pytest.fixture
def waiting(database):
    """A workflow that waits for a signal and for an event."""
    run = claimed()
    memos = [
        BEGIN, GREETED,
        Memo("first", 1, 2, "any", "waiting", awaits=("approve", "event order.paid orderId abc"), delay_seconds=3600),
    ]  # fmt: skip
    with transaction() as connection:
        assert steps.suspend(connection, fence_of(run), Wait(memos, "caller"))
    return run.id


@pytest.fixture
def ended(database):
    """A workflow that failed after two steps."""
    run = claimed()
    charged = Memo("charge", 1, 2, "step", "done", "1")
    with transaction() as connection:
        steps.keep(connection, fence_of(run), [BEGIN, GREETED, charged])
        ends.finish(connection, worker_id(), [Closing(run.id, "acme", run.attempt, "failed", "caller")])
    return run.id


def mail_of(run_id):
    with autocommit() as connection:
        query = "SELECT name, tenant_id, key_id, sealed_payload FROM cgk.mail WHERE run_id = %(id)s::uuid"
        return [(row["name"], json.loads(opened(row)["payload"])) for row in fetch(connection, query, {"id": run_id})]


def last_line():
    return audit.lines(limit=1)[0]


def test_a_signal_comes_to_the_run_that_waits_for_it(oscar, waiting):
    page = oscar.open(f"/runs/{waiting}")
    assert "it waits for approve." in page.text
    answer = oscar.submit(page, f"/runs/{waiting}/signal", name="approve", payload='{"by": "grace"}')
    assert "The signal is sent." in answer.text
    assert (mail_of(waiting), get_run(waiting).state) == ([("approve", {"by": "grace"})], "pending")
    line = last_line()
    assert (line.who, line.action, line.subject, line.tenant_id, line.outcome, line.message) == (
        "oscar", "signal run", waiting, "acme", "done", "signal approve",
    )  # fmt: skip


def test_the_name_is_filled_in_and_without_a_payload_it_brings_nothing(oscar, waiting):
    oscar.submit(oscar.open(f"/runs/{waiting}"), f"/runs/{waiting}/signal", payload="")
    assert mail_of(waiting) == [("approve", None)]


@pytest.mark.parametrize(
    ("name", "payload", "problem"),
    [
        ("approve", "{not json", "is not JSON"),
        ("", "null", "A step cannot be called"),
        ("$undo", "null", "cannot be called"),
    ],
)
def test_a_signal_that_does_not_fit_comes_back_with_what_is_wrong(oscar, waiting, name, payload, problem):
    answer = oscar.submit(oscar.open(f"/runs/{waiting}"), f"/runs/{waiting}/signal", name=name, payload=payload)
    assert (answer.status_code, problem in answer.text, payload in answer.text) == (400, True, True)
    assert (mail_of(waiting), last_line().outcome) == ([], "refused")


def test_a_run_that_has_ended_takes_no_signal(oscar, ended):
    page = oscar.open(f"/runs/{ended}")
    assert f"/runs/{ended}/signal" not in actions(page.text)
    token = {"_xsrf": oscar.cookies["_xsrf"]}
    answer = oscar.post(f"{oscar.base}/runs/{ended}/signal", data={**token, "name": "approve"}, timeout=30)
    assert (answer.status_code, "signal" in answer.text) == (409, True)


def test_a_replay_from_a_step_remembers_those_before_it(oscar, ended):
    page = oscar.open(f"/runs/{ended}")
    assert SECRET not in page.text
    answer = oscar.submit(page, f"/runs/{ended}/replay-from", step="1")
    again = get_run(answer.url.rpartition("/")[2])
    with autocommit() as connection:
        remembered = [step.name for step in steps_of(connection, again.id, None)]
    assert (again.replay_of, remembered) == (ended, [GREETED.name])
    assert (last_line().action, last_line().message) == ("replay run from a step", f"new run {again.id}, from charge")


def test_a_name_with_personal_data_is_hidden_in_the_audit(oscar, ended):
    oscar.submit(oscar.open(f"/runs/{ended}"), f"/runs/{ended}/replay-from", step="0")
    assert last_line().message.endswith("from greet-[redacted]")


@pytest.mark.parametrize("step", ["7", "-1", ""])
def test_a_step_that_there_is_not_is_refused(oscar, ended, step):
    answer = oscar.submit(oscar.open(f"/runs/{ended}"), f"/runs/{ended}/replay-from", step=step)
    assert (answer.status_code, "must be one of the 2 steps" in answer.text) == (400, True)


def test_an_open_run_is_not_replayed(oscar, waiting):
    token = {"_xsrf": oscar.cookies["_xsrf"]}
    answer = oscar.post(f"{oscar.base}/runs/{waiting}/replay-from", data={**token, "step": "0"}, timeout=30)
    assert answer.status_code == 409


def test_who_may_only_look_sees_no_form_and_is_refused(dashboard, waiting, ended):
    viola = dashboard.browser("viola")
    assert (
        actions(viola.open(f"/runs/{waiting}").text) & {f"/runs/{waiting}/signal", f"/runs/{waiting}/cancel"} == set()
    )
    assert f"/runs/{ended}/replay-from" not in actions(viola.open(f"/runs/{ended}").text)


def test_a_job_without_steps_has_no_such_forms(oscar, open_run, closed_run):
    for run_id in (open_run(), closed_run()):
        forms = actions(oscar.open(f"/runs/{run_id}").text)
        assert forms & {f"/runs/{run_id}/signal", f"/runs/{run_id}/replay-from"} == set()
