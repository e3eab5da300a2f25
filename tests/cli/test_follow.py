"""`cgk-tasks runs follow`."""

import json
import logging
import threading

import pytest

from cgk_tasks import send_job
from cgk_tasks.cli.output import out
from cgk_tasks.runs import ends, log_writing, logs, progress
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker.identity import worker_id
from tests.support.claims import claim_here
from tests.support.waiting import wait_until

SECRET = "ada.secret@example.org"


@pytest.fixture
def run(database):
    """One that this process has claimed, and whose payload has personal data."""
    payload = {"tenantId": "acme", "customerId": "c-1", "email": SECRET}
    return claim_here(send_job("customer.created", payload, queue="nobody-listens").id)


def tell(run, done, total, message=""):
    kept = progress.KeptReport(run.id, run.tenant_id, run.attempt)
    kept.report.show(done, total, message)
    progress.write([kept])


def log(run, text):
    kept = logs.RunLog(run.id, run.tenant_id, run.attempt, None)
    kept.add(logging.makeLogRecord({"msg": text, "levelname": "INFO", "name": "shop"}))
    log_writing.write([kept])


def close(run, state="completed", code=None):
    closing = Closing(run.id, run.tenant_id, run.attempt, state, "job", "null", None, code, run.key_id)
    with autocommit() as connection:
        assert ends.finish(connection, worker_id(), [closing])


def test_it_shows_what_was_told_and_logged_until_the_run_has_completed(cgk, run):
    tell(run, 1, 4, "page 1")
    log(run, "began")
    close(run)
    outcome = cgk("runs", "follow", run.id)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0].endswith("[info] #1 began")
    assert outcome.out.splitlines()[1] == "completed  1 of 4 (25%)  page 1"


def test_it_waits_for_the_end_and_shows_each_change(cgk, run):
    looks = []

    def note(statement, _seconds, _error):
        if statement.label == "logs.lines":
            looks.append(statement)

    def go_on():
        wait_until(lambda: looks)
        tell(run, 1, 2)
        before = len(looks)
        wait_until(lambda: len(looks) > before + 1)
        close(run)

    other = threading.Thread(target=go_on)
    door.observe(note)
    try:
        other.start()
        outcome = cgk("runs", "follow", run.id, "--json")
        other.join()
    finally:
        door.forget_observer(note)
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert [(line["state"], line["progress"] and line["progress"]["done"]) for line in lines] == [
        ("running", None), ("running", 1.0), ("completed", 1.0),
    ]  # fmt: skip


def test_a_run_that_failed_gives_another_exit_code_and_its_error(cgk, run):
    close(run, "failed", "HTTP_502")
    outcome = cgk("runs", "follow", run.id)
    assert (outcome.code, outcome.out.strip()) == (1, "failed HTTP_502")


def test_it_gives_up_after_the_time_that_it_was_given(cgk, run):
    outcome = cgk("runs", "follow", run.id, "--timeout", "0")
    assert (outcome.code, "still running after 0 s" in outcome.err) == (1, True)


def test_personal_data_in_a_message_is_redacted(cgk, run):
    tell(run, 1, None, f"mail to {SECRET}")
    close(run)
    outcome = cgk("runs", "follow", run.id)
    assert ("mail to [redacted]" in outcome.out, SECRET in outcome.out) == (True, False)


def test_so_it_is_in_show(cgk, run):
    kept = progress.KeptReport(run.id, run.tenant_id, run.attempt)
    kept.report["to"] = SECRET
    progress.write([kept])
    hidden, shown = cgk("runs", "show", run.id), cgk("runs", "show", run.id, "--show-payload")
    assert (SECRET in hidden.out, SECRET in shown.out) == (False, True)


def test_an_unknown_run_is_an_error(cgk, database):
    outcome = cgk("runs", "follow", "01890000-0000-7000-8000-000000000000")
    assert (outcome.code, "no run" in outcome.err.lower()) == (1, True)


def test_on_a_terminal_it_is_a_bar(cgk, run, monkeypatch):
    tell(run, 1, 4, "page [1]")
    close(run)
    console = out()
    console._force_terminal = True
    monkeypatch.setattr("cgk_tasks.cli.follow.out", lambda: console)
    outcome = cgk("runs", "follow", run.id)
    assert outcome.code == 0
    assert "1 of 4 (25%)" in outcome.out
    assert "page [1]" in outcome.out
