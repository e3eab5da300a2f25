"""Progress on record: how often it is written, whose it is, and for how long it stays."""

import threading
from datetime import timedelta

import pytest

from cgk_tasks import get_run, send_job
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.events import TenantEvent
from cgk_tasks.runs import partitions, progress
from cgk_tasks.runs.models import first_run_id
from cgk_tasks.sql import door
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import tenant_context
from tests.support.claims import claim_here
from tests.support.waiting import wait_until


class Slow(TenantEvent, event="test.slowImport"):
    """Nobody's job runs it here."""


@pytest.fixture
def run(database):
    """One that this process has claimed."""
    return claim_here(send_job(Slow(tenant_id="acme"), queue="nobody-listens").id)


def begin(run, attempt=None):
    return progress.KeptReport(run.id, run.tenant_id, attempt or run.attempt)


def done(run):
    told = get_run(run.id).progress
    return told and told.done


def test_it_is_written_while_the_job_goes_on(run):
    begin(run).report.show(1, 2, "")
    wait_until(lambda: done(run) == 1)


def test_what_changes_often_is_written_seldom(run):
    writes = []

    def note(statement, _seconds, _error):
        if statement.label == "progress.keep_progress":
            writes.append(statement)

    kept = begin(run)
    door.observe(note)
    try:
        for number in range(10_000):
            kept.report.show(number, 10_000, "")
        wait_until(lambda: done(run) == 9_999)
    finally:
        door.forget_observer(note)
    assert 1 <= len(writes) <= 10


def test_the_end_is_written_at_once_and_nothing_after_it(run):
    kept = begin(run)
    kept.report.show(2, 2, "")
    progress.write([kept])
    assert done(run) == 2
    kept.report.show(3, 2, "from a thread that the job has left")
    assert not kept.is_changed


def test_the_reports_of_many_runs_are_one_statement(run, database):
    others = [claim_here(send_job(Slow(tenant_id="acme"), queue="nobody-listens").id) for _ in range(3)]
    kept = [begin(one) for one in [run, *others]]
    for number, one in enumerate(kept):
        one.report.show(number, 4, "")
    progress.write(kept)
    assert [done(one) for one in [run, *others]] == [0, 1, 2, 3]


def test_an_attempt_whose_run_was_taken_does_not_overwrite_a_later_one(run):
    late, new = begin(run), begin(run, attempt=2)
    new.report.show(5, 10, "")
    progress.write([new])
    late.report.show(1, 10, "")
    progress.write([late])
    assert done(run) == 5


def test_another_tenant_does_not_see_it(run):
    kept = begin(run)
    kept.report["secret"] = 1
    progress.write([kept])
    with tenant_context("globex"), pytest.raises(UnknownRunError):
        get_run(run.id)


def test_a_database_that_is_not_migrated_yet_costs_the_run_nothing(run):
    kept = begin(run)
    kept.report.show(1, 2, "")
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.run_progress RENAME TO run_progress_away")
    try:
        progress.write([kept])
        assert (get_run(run.id).progress, get_run(run.id).metadata) == (None, {})
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.run_progress_away RENAME TO run_progress")


def test_what_is_told_from_many_threads_is_all_kept(run):
    kept = begin(run)

    def tell(name):
        for number in range(50):
            kept.report[name] = number

    threads = [threading.Thread(target=tell, args=[f"thread {one}"]) for one in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress.write([kept])
    assert get_run(run.id).metadata == {f"thread {one}": 49 for one in range(8)}


def test_it_is_forgotten_with_its_run(database):
    table = next(one for one in partitions.DAILY_TABLES if one.name == "run_progress")
    day = database_now().date() - timedelta(days=40)
    old = first_run_id(database_now() - timedelta(days=40))
    partitions.make_days(day, table)
    kept = progress.KeptReport(old, "acme", 1)
    kept.report.show(1, 2, "")
    progress.write([kept])
    partitions.forget_days(database_now().date() - timedelta(days=30), table)
    with autocommit() as connection:
        assert fetch(connection, "SELECT FROM cgk.run_progress WHERE run_id = %(id)s", {"id": old}) == []
