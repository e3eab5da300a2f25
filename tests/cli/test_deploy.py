"""`cgk-tasks deploy check`: names what new code would break of open runs, and changes nothing."""

import json

import pytest

from cgk_tasks import define_workflow, send_job
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.runs import steps
from cgk_tasks.runs.steps import Memo, Wait
from cgk_tasks.sql.postgres import autocommit, transaction
from cgk_tasks.worker.steps import fence_of
from tests.support.claims import claim_here


class Deployed(TenantEvent, event="test.deployed"):
    number: int = 0


@pytest.fixture
def run_id(database):
    """An open run of version 1 that has charged and waits for a signal."""
    run = claim_here(send_job(Deployed(tenant_id="acme"), queue="nobody-listens").id)
    memos = [
        Memo("$begin", 1, 0, "begin", "begun", '{"version": 1}'), Memo("charge", 1, 1, "step", "done", "1"),
        Memo("approve", 1, 2, "signal", "waiting", awaits=("approve",)),
    ]  # fmt: skip
    with transaction() as connection:
        assert steps.suspend(connection, fence_of(run), Wait(memos, "deployed"))
    yield run.id
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = %s", [run.id])
    remove_job("deployed")


def found(cgk, event=None):
    """What breaks of this workflow, and of its event."""
    outcome = cgk("deploy", "check", "--json")
    mine = [one for one in json.loads(outcome.out) if one["where"] in {"deployed", "test.deployed"}]
    assert outcome.code == (1 if json.loads(outcome.out) else 0)
    return mine


def test_code_that_has_all_steps_breaks_nothing(cgk, run_id):
    @define_workflow("deployed", event=Deployed)
    def deployed(wf):
        wf.step("charge", int)
        wf.step("new", int)
        wf.wait_for_signal("approve")

    assert found(cgk) == []


def test_a_step_that_was_renamed_is_named(cgk, run_id):
    @define_workflow("deployed", event=Deployed)
    def deployed(wf):
        wf.step("pay", int)
        wf.wait_for_signal("approve")

    (finding,) = found(cgk)
    assert (finding["breaks"], finding["problem"], finding["runs"], finding["examples"]) == (
        "step", "version 1 has no step 'charge' any more", 1, [run_id]
    )  # fmt: skip


def test_a_version_that_is_gone_is_named(cgk, run_id):
    define_workflow("deployed", event=Deployed, version=2)(lambda wf: None)
    (finding,) = found(cgk)
    assert (finding["breaks"], "no version 1" in finding["problem"]) == ("version", True)


def test_a_workflow_that_is_gone_is_named(cgk, run_id):
    (finding,) = found(cgk)
    assert (finding["breaks"], finding["runs"]) == ("workflow", 1)


def test_a_payload_that_the_event_does_not_accept_any_more_is_named(cgk, run_id, monkeypatch):
    define_workflow("deployed", event=Deployed)(lambda wf: [wf.step("charge", int), wf.wait_for_signal("approve")])
    with autocommit() as connection:
        payload = json.dumps({"tenantId": "acme", "number": "many"}).encode()
        connection.execute("UPDATE cgk.runs SET sealed_payload = %s WHERE id = %s", [payload, run_id])
    (finding,) = found(cgk)
    assert (finding["breaks"], finding["where"], "number" in finding["problem"]) == ("payload", "test.deployed", True)


def test_it_is_read_by_people_too(cgk, run_id):
    outcome = cgk("deploy", "check")
    assert (outcome.code, "the code has no workflow of this id" in outcome.out) == (1, True)
