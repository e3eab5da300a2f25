"""`cgk-tasks workflows`, with a real worker."""

import json

import pytest

from cgk_tasks import cancel_run, get_run, send_job
from tests.integration.stay_jobs import Stay
from tests.integration.workflow_jobs import AskedTrip
from tests.support.waiting import wait_closed, wait_until

MODULES = ["tests.integration.stay_jobs", "tests.integration.workflow_jobs"]


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(MODULES)


@pytest.fixture(autouse=True)
def job_modules(worker, setting):
    setting(CGK_JOB_MODULES=",".join(MODULES))


def asked():
    """A workflow that waits for two signals."""
    run_id = send_job(AskedTrip(tenant_id="acme")).id
    wait_until(lambda: get_run(run_id).state == "scheduled")
    return run_id


def test_the_list_says_what_workflows_wait_for_and_since_when(cgk):
    run_id = asked()
    outcome = cgk("workflows", "list", "--tenant", "acme")
    (line,) = [line for line in outcome.out.splitlines() if run_id in line]
    assert ("asked-trip" in line, "signal answer" in line) == (True, True)
    (found,) = [one for one in cgk("workflows", "list", "--json").json if one["id"] == run_id]
    assert (found["step"], found["kind"], found["awaits"], found["until"]) == ("answer", "signal", ["answer"], None)
    cancel_run(run_id)
    assert run_id not in cgk("workflows", "list").out


def test_a_run_is_shown_with_its_steps_and_times(cgk):
    run_id = wait_closed(send_job(Stay(tenant_id="acme", bookings=1)).id).id
    found = cgk("workflows", "show", run_id, "--json").json
    assert [(step["name"], step["kind"], step["state"]) for step in found["steps"]] == [
        ("book-0", "step", "done"), ("cancel-0", "compensate", "done")
    ]  # fmt: skip
    assert all(step["began_at"] < step["ended_at"] for step in found["steps"])
    assert "book-0" in cgk("workflows", "show", run_id).out


def test_a_signal_from_the_command_line_counts(cgk):
    run_id = asked()
    for by in ("ada", "bob"):
        assert cgk("workflows", "signal", run_id, "answer", json.dumps({"by": by})).code == 0
    assert wait_closed(run_id).result == [{"by": "ada"}, {"by": "bob"}]


def test_what_is_no_json_is_refused(cgk):
    outcome = cgk("workflows", "signal", asked(), "answer", "{")
    assert (outcome.code, "this is no JSON" in outcome.err) == (2, True)


def test_a_workflow_is_replayed_from_a_step(cgk):
    run_id = wait_closed(send_job(Stay(tenant_id="acme")).id).id
    again = cgk("workflows", "replay", run_id, "--from-step", "book-1").out.strip()
    assert wait_closed(again).replay_of == run_id


def test_a_step_that_was_not_done_is_refused(cgk):
    run_id = wait_closed(send_job(Stay(tenant_id="acme")).id).id
    outcome = cgk("workflows", "replay", run_id, "--from-step", "fly")
    assert (outcome.code, "'fly' is no step" in outcome.err) == (1, True)
