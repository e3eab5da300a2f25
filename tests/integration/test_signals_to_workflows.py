"""Signals with a real worker: none is lost, whether it comes before, while or after a workflow begins to wait."""

import json
import threading

import pytest
from sqlalchemy.orm import Session

from cgk_tasks import cancel_run, get_run, send_job, signal_run
from cgk_tasks.errors import ConfigurationError, PayloadTooLargeError, RunStateError, UnknownRunError
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs import mails, steps
from cgk_tasks.runs.steps import Memo, Wait
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.sql.sqlalchemy_engine import engine
from cgk_tasks.tenancy import tenant_context, tenant_session
from cgk_tasks.worker.steps import RunSteps, fence_of
from tests.integration.workflow_jobs import AskedTrip, ChosenTrip, RestlessTrip
from tests.support.claims import claim_here
from tests.support.waiting import wait_closed, wait_until


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.integration.workflow_jobs"])


def asked(**fields):
    return send_job(AskedTrip(tenant_id="acme", **fields)).id


def waits(run_id):
    return wait_until(lambda: get_run(run_id).state == "scheduled")


def answer(run_id, by, **options):
    return signal_run(run_id, "answer", {"by": by}, **options)


def test_signals_wake_a_workflow_that_waits(worker):
    run_id = asked()
    waits(run_id)
    answer(run_id, "ada")
    wait_until(lambda: get_run(run_id).attempt == 2)
    waits(run_id)
    answer(run_id, "bob")
    assert wait_closed(run_id).result == [{"by": "ada"}, {"by": "bob"}]


def test_signals_that_come_before_the_run_has_begun_count(worker):
    run_id = send_job(AskedTrip(tenant_id="acme"), delay=0.5).id
    answer(run_id, "ada")
    answer(run_id, "bob")
    run = wait_closed(run_id)
    assert (run.result, run.attempt) == ([{"by": "ada"}, {"by": "bob"}], 1)


def test_a_key_counts_once_also_when_its_signal_is_taken(worker):
    run_id = asked()
    assert answer(run_id, "ada", key="k-1")
    wait_until(lambda: get_run(run_id).attempt == 2 or get_run(run_id).state == "scheduled")
    assert not answer(run_id, "eve", key="k-1")
    answer(run_id, "bob", key="k-2")
    assert wait_closed(run_id).result == [{"by": "ada"}, {"by": "bob"}]


def test_a_wait_ends_when_its_time_is_over(worker):
    assert wait_closed(asked(timeout=0.2)).result == [None, None]


def test_why_names_the_signal(worker):
    run_id = asked()
    waits(run_id)
    (gate,) = why(run_id).gates
    assert (gate.code, "signal answer" in gate.text) == ("workflow_waits", True)


def test_a_wait_without_an_end_has_no_time(worker):
    run_id = asked()
    waits(run_id)
    (gate,) = why(run_id).gates
    assert (gate.until, gate.text) == (None, "Its workflow waits for signal answer.")
    answer(run_id, "ada")
    answer(run_id, "bob")
    assert wait_closed(run_id).state == "completed"


def test_a_signal_in_a_session_counts_when_that_commits(worker):
    run_id = asked()
    waits(run_id)
    with Session(engine()) as session:
        answer(run_id, "nobody", session=session)
        session.rollback()
    with tenant_context("acme"), tenant_session() as session:
        answer(run_id, "ada", session=session)
    answer(run_id, "bob")
    assert wait_closed(run_id).result == [{"by": "ada"}, {"by": "bob"}]


def test_many_signals_at_the_moment_of_the_wait_are_all_taken(worker):
    runs = [asked() for _ in range(10)]
    senders = [
        threading.Thread(target=lambda run=run: [answer(run, str(number)) for number in range(2)]) for run in runs
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert [wait_closed(run).result for run in runs] == [[{"by": "0"}, {"by": "1"}]] * 10


def test_the_first_of_several_ends_the_wait(worker):
    run_id = send_job(ChosenTrip(tenant_id="acme")).id
    waits(run_id)
    signal_run(run_id, "train", {"by": "ada"})
    assert wait_closed(run_id).result == ["train", "ada"]


def test_a_time_ends_the_wait_for_the_first_of_several(worker):
    assert wait_closed(send_job(ChosenTrip(tenant_id="acme", seconds=0.2)).id).result == ["late", ""]


def test_a_signal_does_not_wait_for_a_step_that_is_tried_again_later(worker):
    run_id = send_job(RestlessTrip(tenant_id="acme", trip_id="unpaid")).id
    wait_until(lambda: get_run(run_id).state == "retrying")
    signal_run(run_id, "go")
    assert wait_closed(run_id).result == "signal"


# Who may


def test_a_run_that_has_ended_takes_no_signal(database):
    run_id = send_job(AskedTrip(tenant_id="acme"), delay=3600).id
    cancel_run(run_id)
    with pytest.raises(RunStateError, match="Only open runs take signals"):
        answer(run_id, "ada")


def test_an_unknown_run_takes_no_signal(database):
    for run_id in ("01995a5e-0000-7000-8000-000000000000", "no id"):
        with pytest.raises(UnknownRunError):
            answer(run_id, "ada")


def test_another_tenants_run_is_unknown(database):
    run_id = send_job(AskedTrip(tenant_id="acme"), queue="nobody-listens").id
    with tenant_context("globex"), pytest.raises(UnknownRunError):
        answer(run_id, "ada")


def test_what_no_signal_can_be_is_refused(database):
    run_id = send_job(AskedTrip(tenant_id="acme"), queue="nobody-listens").id
    with pytest.raises(ConfigurationError, match="cannot be called"):
        signal_run(run_id, "")
    with pytest.raises(PayloadTooLargeError):
        signal_run(run_id, "answer", "x" * 300_000)


# The order of locks


@pytest.fixture
def run(database):
    """A run that this process holds."""
    run_id = send_job(AskedTrip(tenant_id="acme"), queue="nobody-listens").id
    return claim_here(run_id)


def suspend(connection, run):
    memo = Memo("answer", 1, 1, "signal", "waiting", awaits=("answer",))
    assert steps.suspend(connection, fence_of(run), Wait([memo], "asked-trip"))
    return mails.wake_at_once(connection, run.id, ["answer"])


def test_a_signal_that_is_being_sent_while_the_run_begins_to_wait_wakes_it(run):
    """The run cannot begin to wait before the signal is there, and so sees it."""
    woken = []

    def wait():
        with transaction() as connection:
            woken.extend(suspend(connection, run))

    waiting = threading.Thread(target=wait)
    with transaction() as connection:
        found = mails.lock_run(connection, run.id)
        assert mails.deliver(connection, run.id, found, "answer", "{}", None, publishes=True).woken is None
        waiting.start()
        wait_until(lambda: blocked(connection))
    waiting.join()
    assert (woken[0].id, get_run(run.id).state) == (run.id, "pending")


def test_a_run_that_is_beginning_to_wait_is_woken_by_a_signal(run):
    """The signal cannot come before the run waits, and so sees that it does."""
    sending = threading.Thread(target=lambda: signal_run(run.id, "answer", {}))
    with transaction() as connection:
        assert not suspend(connection, run)
        sending.start()
        wait_until(lambda: blocked(connection))
    sending.join()
    assert get_run(run.id).state == "pending"


def blocked(connection):
    """Whether somebody waits for a lock that this transaction holds."""
    statement = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    return connection.execute(statement).fetchone()[0]


# Answers that are lost


def twice(action, _patience):
    """The first answer did not come, so it is asked again."""
    action()
    return action()


def test_a_signal_that_was_taken_is_the_steps_when_the_answer_is_lost(run, monkeypatch):
    signal_run(run.id, "answer", {"by": "ada"})
    signal_run(run.id, "answer", {"by": "bob"})
    monkeypatch.setattr(postgres, "retry_while_unavailable", twice)
    memos = [
        RunSteps(run).take(lambda payload, nth=nth: Memo("answer", nth, nth, "signal", "done", payload), "answer")
        for nth in (1, 2)
    ]
    assert [json.loads(memo.result) for memo in memos] == [{"by": "ada"}, {"by": "bob"}]
