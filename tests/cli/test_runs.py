"""`cgk-tasks runs`, with a real worker."""

import json
import logging
from datetime import UTC, datetime

import pytest

from cgk_tasks import get_job_status, send_job
from cgk_tasks.dashboard import audit
from cgk_tasks.events import CustomerCreated
from cgk_tasks.runs import log_writing, logs, store
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit
from tests.support.content import insert
from tests.support.jobs import Behave, TwoJobs
from tests.support.waiting import wait_closed

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.support.jobs"])


@pytest.fixture(autouse=True)
def job_modules(worker, setting):
    setting(CGK_JOB_MODULES="tests.support.jobs")


def waiting(tenant="acme"):
    return send_job(Behave(tenant_id=tenant, action="echo", argument="x"), delay=3600).id


def closed(action="echo", tenant="acme"):
    return wait_closed(send_job(Behave(tenant_id=tenant, action=action, argument="x")).id).id


def ids(outcome):
    return [row["id"] for row in outcome.json]


def test_the_newest_runs_come_first(cgk):
    first, second = waiting(), waiting()
    assert ids(cgk("runs", "list", "--limit", "2", "--json")) == [second, first]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--tenant", "globex"), ("--event", "test.behave"), ("--state", "completed"), ("--job", "test-behave")],
)
def test_each_option_narrows_the_list(cgk, option, value):
    closed(tenant="globex")
    waiting()
    rows = cgk("runs", "list", option, value, "--json").json
    column = {"--tenant": "tenant_id"}.get(option, option.removeprefix("--"))
    assert {row[column] for row in rows} == {value}


def test_a_state_that_there_is_not_is_wrong_usage_and_offers_the_nearest(cgk):
    outcome = cgk("runs", "list", "--state", "faild")
    assert (outcome.code, 'Did you mean "failed"?' in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [("--tenant", "acmee", "acme"), ("--event", "test.behav", "test.behave"), ("--job", "test-behaved", "test-behave")],
)
def test_an_empty_list_says_which_name_nobody_knows(cgk, option, value, near):
    assert f'There is no {option[2:]} {value!r} here. Did you mean "{near}"?' in cgk("runs", "list", option, value).err


def test_the_table_has_the_whole_id_when_it_is_piped(cgk):
    run_id = waiting()
    assert run_id in cgk("runs", "list", "--limit", "5").out


def test_a_run_is_shown_with_its_result(cgk):
    shown = cgk("runs", "show", closed(), "--json").json
    assert (shown["state"], shown["result"], shown["attempt"]) == ("completed", "x", 1)


def test_a_failed_run_is_shown_with_the_error_of_every_attempt(cgk):
    run_id = closed("fail")
    shown = cgk("runs", "show", run_id, "--json").json
    assert [error["attempt"] for error in shown["errors"]] == [1, 2, 3]
    assert "ValueError: x" in cgk("runs", "show", run_id).out


def test_a_parent_is_shown_with_its_children(cgk):
    parent = wait_closed(send_job(TwoJobs(tenant_id="acme")).id).id
    shown = cgk("runs", "show", parent, "--json").json
    assert {child["job"]: child["state"] for child in shown["children"]} == {
        "test-first": "completed", "test-second": "completed",
    }  # fmt: skip


def test_personal_data_is_not_shown(cgk):
    run_id = send_job(CustomerCreated(tenant_id="acme", customer_id="c-1", email="ada@example.com"), delay=60).id
    payload = cgk("runs", "show", run_id, "--json").json["payload"]
    assert payload == {"tenantId": "acme", "customerId": "c-1", "email": "[redacted]"}


def test_personal_data_is_shown_when_asked_for(cgk):
    run_id = send_job(CustomerCreated(tenant_id="acme", customer_id="c-1", email="ada@example.com"), delay=60).id
    assert "ada@example.com" in cgk("runs", "show", run_id, "--show-payload").out


@pytest.fixture
def quoting():
    """A closed run whose result, error and traceback quote its payload."""
    payload = {"tenantId": "acme", "customerId": "c-1", "email": "ada@example.com"}
    error = {
        "attempt": 1, "at": "2026-01-01T00:00:00+00:00", "kind": "permanent", "code": "NO_MAIL", "type": "ValueError",
        "message": "no mail to ada@example.com", "args": ["ada@example.com"],
        "traceback": "ValueError: <ada@example.com>",
    }  # fmt: skip
    run_id = new_run_id()
    with autocommit() as connection:
        values = {
            "id": run_id, "tenant_id": "acme", "event": "customer.created", "state": "completed", "queue": "cgk",
            "priority": 5, "payload": json.dumps(payload), "errors": json.dumps([error]),
            "result": json.dumps({"sent": ["to ada@example.com"], "count": 1}), "run_at": datetime.now(UTC),
        }  # fmt: skip
        insert(connection, "run_history", values)
    return str(run_id)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_personal_data_is_not_shown_where_results_and_errors_quote_it(cgk, quoting, options):
    shown = cgk("runs", "show", quoting, *options).out
    assert "ada@example.com" not in shown
    assert ("no mail to [redacted]" in shown, "ValueError: <[redacted]>" in shown, "to [redacted]" in shown) == (
        True,
    ) * 3


def test_results_and_errors_are_whole_when_asked_for(cgk, quoting):
    shown = cgk("runs", "show", quoting, "--show-payload", "--json").json
    assert shown["result"] == {"sent": ["to ada@example.com"], "count": 1}
    assert shown["errors"][0]["traceback"] == "ValueError: <ada@example.com>"


@pytest.mark.parametrize("run_id", ["0198c0de-0000-7000-8000-00000000abcd", "nonsense"])
def test_an_unknown_run_fails(cgk, run_id):
    outcome = cgk("runs", "show", run_id)
    assert (outcome.code, f"There is no run {run_id}." in outcome.err) == (1, True)


def test_runs_are_cancelled(cgk):
    first, second = waiting(), waiting()
    rows = cgk("runs", "cancel", first, second, "--json").json
    assert [(row["id"], row["state"]) for row in rows] == [(first, "cancelled"), (second, "cancelled")]


def test_a_run_that_cannot_be_cancelled_does_not_stop_the_others(cgk):
    over, open_one = closed(), waiting()
    outcome = cgk("runs", "cancel", over, open_one, "--json")
    assert (outcome.code, ids(outcome), get_job_status(open_one).state) == (1, [open_one], "cancelled")


def test_a_dry_run_cancels_nothing(cgk):
    run_id = waiting()
    cgk("runs", "cancel", run_id, "--dry-run")
    assert get_job_status(run_id).state == "scheduled"


def test_a_closed_run_is_retried_as_a_new_one_that_names_it(cgk):
    run_id = closed("fail_permanently")
    (row,) = cgk("runs", "retry", run_id, "--json").json
    assert get_job_status(row["id"]).replay_of == run_id == row["replay_of"]


def test_an_open_run_cannot_be_retried(cgk):
    outcome = cgk("runs", "retry", waiting())
    assert (outcome.code, "Only closed runs can be retried" in outcome.err) == (1, True)


def test_a_dry_run_retries_nothing(cgk):
    run_id = closed("fail_permanently")
    cgk("runs", "retry", run_id, "--dry-run")
    assert all(row["replay_of"] != run_id for row in cgk("runs", "list", "--json").json)


def test_logs_shows_what_a_run_has_logged(cgk):
    run = waiting()
    kept = logs.RunLog(run, "acme", 2, None)
    kept.add(logging.makeLogRecord({"msg": "counted", "levelname": "INFO", "name": "shop"}))
    log_writing.write([kept])

    assert cgk("runs", "logs", run).out.rstrip().endswith("[info] #2 counted")
    (line,) = cgk("runs", "logs", run, "--json").json
    assert (line["message"], line["attempt"], line["logger"]) == ("counted", 2, "shop")


def test_logs_says_when_there_is_nothing(cgk):
    assert "has logged nothing" in cgk("runs", "logs", waiting()).err


def failed(tenant):
    return closed("fail_permanently", tenant)


def test_a_dry_run_of_what_matches_says_how_many_and_does_nothing(cgk):
    runs = [failed("initech") for _ in range(2)]
    outcome = cgk("runs", "retry", "--matching", "tenant:initech state:failed since:1h", "--dry-run", "--json").json
    assert outcome["runs"] >= 2
    assert set(runs) <= {row["id"] for row in outcome["sample"]}
    assert outcome["by_state"] == {"failed": outcome["runs"]}
    assert not [one for one in runs if cgk("runs", "retry", one, "--dry-run", "--json").code]
    assert "Nothing was done." in cgk("runs", "retry", "--matching", "tenant:initech", "--dry-run").err


def test_what_matches_is_retried_once_and_in_the_audit_as_done_on_a_terminal(cgk):
    run_id = failed("globex")
    search = "tenant:globex state:failed"
    first = cgk("runs", "retry", "--matching", search, "--rate", "500", "--json").json
    assert (first["outcome"], first["runs"] >= 1) == ("done", True)
    line = audit.lines(action_id=first["action"])[0]
    assert (line.via, line.role, line.action, line.subject, line.tenant_id) == (
        "cli", "", "retry matches", search, "globex",
    )  # fmt: skip
    assert run_id in {run.replay_of for run in store.listing(tenant_id="globex", limit=100)}


def test_what_matches_is_cancelled(cgk):
    runs = [waiting("globex") for _ in range(3)]
    outcome = cgk("runs", "cancel", "--matching", "tenant:globex state:scheduled", "--rate", "500")
    assert outcome.code == 0
    assert {get_job_status(one).state for one in runs} == {"cancelled"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["retry"], 2, "--matching"),
        (["retry", "x", "--matching", "state:failed"], 2, "--matching"),
        (["cancel", "--matching", ""], 1, "every run of every tenant"),
        (["cancel", "--matching", "stat:failed"], 1, 'Did you mean "state"?'),
    ],
    ids=str,
)
def test_what_names_no_runs_is_refused(cgk, arguments, code, said):
    outcome = cgk("runs", *arguments)
    assert (outcome.code, said in outcome.err) == (code, True)
