"""`cgk-tasks deploy check`: names what new code would break of open runs, and changes nothing."""

import asyncio
import json
import uuid
from typing import Annotated

import pytest

from cgk_tasks import define_workflow, get_job_status, send_job, tenant_cache
from cgk_tasks.events import Sensitive, TenantEvent
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.runs import steps
from cgk_tasks.runs.steps import Memo, Wait
from cgk_tasks.sql.postgres import autocommit, transaction
from cgk_tasks.worker.steps import fence_of
from tests.support.claims import claim_here


class Deployed(TenantEvent, event="test.deployed"):
    number: int = 0
    note: Annotated[str, Sensitive()] = ""


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


# With --replay


def replayed(cgk):
    """What a replay says of this workflow."""
    outcome = cgk("deploy", "check", "--replay", "--json")
    mine = [one for one in json.loads(outcome.out) if (one["where"], one["breaks"]) == ("deployed", "replay")]
    assert outcome.code == (1 if json.loads(outcome.out) else 0)
    return [(one["problem"], one["runs"], one["examples"]) for one in mine]


DONE = []


def test_a_replay_of_code_that_fits_does_no_step_and_finds_nothing(cgk, run_id):
    @define_workflow("deployed", event=Deployed)
    def deployed(wf):
        DONE.append(wf.step("charge", DONE.append, "a step"))
        wf.wait_for_signal("approve")
        wf.step("new", DONE.append, "a step")

    DONE.clear()
    assert (replayed(cgk), DONE) == ([], [1])


def test_a_replay_of_a_coroutine_that_fits_finds_nothing(cgk, run_id):
    @define_workflow("deployed", event=Deployed)
    async def deployed(wf):
        charged = wf.step("charge", int)
        await asyncio.gather(charged, wf.wait_for_signal("approve"), wf.step("new", DONE.append, "a step"))

    DONE.clear()
    assert (replayed(cgk), DONE) == ([], [])


def test_a_step_that_the_code_still_has_and_does_not_come_to_is_found(cgk, run_id):
    @define_workflow("deployed", event=Deployed)
    def deployed(wf):
        if wf.payload.number:
            wf.step("charge", int)
        wf.wait_for_signal("approve")

    assert found(cgk) == []
    ((problem, runs, examples),) = replayed(cgk)
    assert problem.startswith("WorkflowChangedError: Workflow 'deployed' was changed: this run has done 'charge'")
    assert (runs, examples) == (1, [run_id])


def test_a_step_that_has_become_a_wait_is_found(cgk, run_id):
    define_workflow("deployed", event=Deployed)(lambda wf: [wf.sleep("charge", 1), wf.wait_for_signal("approve")])
    ((problem, *_),) = replayed(cgk)
    assert problem.startswith("WorkflowChangedError")


def test_a_result_that_cannot_be_read_any_more_is_found(cgk, run_id):
    def charge() -> list[str]: ...

    define_workflow("deployed", event=Deployed)(lambda wf: [wf.step("charge", charge), wf.wait_for_signal("approve")])
    ((problem, *_),) = replayed(cgk)
    assert "The result of step 'charge' is no list[str]" in problem


def test_an_error_of_the_new_code_is_found_without_personal_data(cgk, run_id):
    @define_workflow("deployed", event=Deployed)
    def deployed(wf):
        wf.step("charge", int)
        raise ValueError(f"no such {wf.payload.note}")

    with autocommit() as connection:
        payload = json.dumps({"tenantId": "acme", "note": "ada.secret@example.com"}).encode()
        connection.execute("UPDATE cgk.runs SET sealed_payload = %s WHERE id = %s", [payload, run_id])
    assert [problem for problem, *_ in replayed(cgk)] == ["ValueError: no such [redacted]"]


@pytest.mark.parametrize("ask", [
    lambda: get_job_status(str(uuid.uuid4())), lambda: send_job(Deployed(tenant_id="acme")),
    lambda: tenant_cache().get("a"),
])  # fmt: skip
def test_code_outside_of_steps_has_no_way_out(cgk, run_id, ask):
    define_workflow("deployed", event=Deployed)(lambda wf: [wf.step("charge", int), ask()])
    ((problem, *_),) = replayed(cgk)
    assert "Code outside of a step asks for a database, a broker or a cache" in problem


def test_a_replay_leaves_the_run_and_its_steps_as_they_were(cgk, run_id):
    define_workflow("deployed", event=Deployed)(lambda wf: [wf.step("charge", int), wf.step("new", DONE.append, 1)])

    def rows():
        with autocommit() as connection:
            return connection.execute(
                "SELECT r::text, s::text FROM cgk.runs r JOIN cgk.steps s ON s.run_id = r.id ORDER BY s.place"
            ).fetchall()

    before = rows()
    replayed(cgk)
    assert rows() == before
