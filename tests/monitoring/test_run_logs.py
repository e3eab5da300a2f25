"""What jobs log is kept with their runs."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import cancel_job, send_job, send_jobs
from cgk_tasks.runs import partitions
from cgk_tasks.runs.logs import lines
from cgk_tasks.sql.postgres import autocommit, execute, fetch, transaction
from tests.monitoring.log_jobs import Talk, Text
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow

SECRET = "clara.oswald@example.org"
STREET = "Totters Lane 76"


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.monitoring.log_jobs"], CGK_RUN_LOG_BYTES="4000", CGK_LOG_TRACEBACKS="true")


def talked(worker, how, **fields):
    run = send_job(Talk(tenant_id="acme", how=how, **fields)).id
    wait_closed(run)
    return run


def messages(run):
    return [line.message for line in lines(run)]


def rows(run):
    with autocommit() as connection:
        return fetch(connection, "SELECT * FROM cgk.run_logs WHERE run_id = %(run)s", {"run": run})


def test_lines_of_the_context_of_structlog_and_of_logging_are_kept_in_order(worker):
    first, second, third = lines(talked(worker, "all"))

    assert (first.message, first.level, first.attempt) == ("by the context", "info", 1)
    assert first.fields == {"amount": 12.5, "items": ["a", "b"]}
    assert (second.message, second.logger, second.level) == ("by structlog", "shop.orders", "warning")
    assert (third.message, third.logger) == ("by logging", "shop.stock")
    assert first.at <= second.at <= third.at <= datetime.now(UTC)


def test_the_same_lines_are_in_the_workers_log_with_the_runs_ids(worker):
    run = talked(worker, "all")
    found = [json.loads(line) for line in worker.log.splitlines() if run in line and "by structlog" in line]
    assert [(line["tenant"], line["attempt"], line["event"]) for line in found] == [("acme", 1, "test.talk")]


def test_what_a_job_prints_is_a_line_of_its_run_as_in_celery(worker):
    run = talked(worker, "print", email=SECRET)
    assert [(line.message, line.level) for line in lines(run)] == [
        ("printed for [redacted]", "warning"), ("written to stderr", "warning"), ("and not ended", "warning"),
    ]  # fmt: skip
    found = [json.loads(line) for line in worker.log.splitlines() if "printed for" in line]
    assert [(line["run"], line["message"]) for line in found] == [(run, "printed for [redacted]")]


def test_a_coroutines_lines_are_kept_too(worker):
    run = send_job("order.delivered", {"tenantId": "acme", "orderId": "o-7"}).id
    wait_closed(run)
    assert [(line.message, line.fields) for line in lines(run)] == [("from a coroutine", {"order": "o-7"})]


def test_the_frameworks_own_lines_are_not_kept(worker):
    assert rows(talked(worker, "nothing")) == []


def test_runs_of_one_packet_keep_their_lines_apart(worker):
    runs = [handle.id for handle in send_jobs([Talk(tenant_id="acme", how="many", lines=1 + n % 9) for n in range(60)])]
    for run in runs:
        wait_closed(run)
    assert [len(lines(run)) for run in runs] == [1 + n % 9 for n in range(60)]


def test_sensitive_values_are_redacted_wherever_they_are_quoted(worker):
    run = talked(worker, "quote", email=SECRET, profile={"street": STREET, "city": "Shoreditch"})

    first, second, third = lines(run)

    assert first.message == "sent to [redacted]"
    assert first.fields == {"email": "[redacted]", "note": "for [redacted]", "count": 3}
    assert "[redacted]" in second.message
    assert "no such address: [redacted]" in third.fields["exception"]
    kept = json.dumps([bytes(row["sealed_lines"]).decode() for row in rows(run)])
    assert not any(secret in kept for secret in (SECRET, STREET, "Shoreditch"))


def test_sensitive_values_do_not_reach_the_workers_log(worker):
    talked(worker, "quote", email=SECRET, profile={"street": STREET})
    talked(worker, "fails", email=SECRET)
    assert SECRET not in worker.log
    assert STREET not in worker.log


def test_sensitive_values_do_not_reach_a_terminal(worker, start_worker):
    queue = f"terminal-{os.urandom(3).hex()}"
    terminal = start_worker(
        ["tests.monitoring.log_jobs"], CGK_LOG_FORMAT="console", CGK_LOG_TRACEBACKS="true", CGK_DEFAULT_QUEUE=queue
    )
    for how in ("quote", "fails"):
        wait_closed(send_job(Talk(tenant_id="acme", how=how, email=SECRET, profile={"street": STREET}), queue=queue).id)
    wait_until(lambda: "TransientError: for [redacted]" in terminal.log)
    assert "ValueError: no such address: [redacted]" in terminal.log
    assert "sent to [redacted]" in terminal.log
    assert SECRET not in terminal.log
    assert STREET not in terminal.log


def test_a_sensitive_field_called_message_does_not_hide_the_lines_message(worker):
    run = send_job(Text(tenant_id="acme", message="your code is 4711", to="+4930123456")).id
    wait_closed(run)
    assert [(line.message, line.fields) for line in lines(run)] == [("sent [redacted] at once", {"to": "[redacted]"})]
    (logged,) = [json.loads(line) for line in worker.log.splitlines() if run in line and "at once" in line]
    assert (logged["message"], logged["to"], logged["run"]) == ("sent [redacted] at once", "[redacted]", run)


def test_lines_beyond_the_runs_room_are_counted(worker):
    run = talked(worker, "many", lines=100)
    kept = lines(run)
    assert kept[-1].message == f"{100 - (len(kept) - 1)} more lines were not kept"
    assert sum(row["size"] for row in rows(run)) <= 4000


def test_all_attempts_share_the_room_and_the_last_one_keeps_its_lines(worker):
    run = talked(worker, "many_twice", lines=100)
    assert sum(row["size"] for row in rows(run)) <= 4000
    assert {row["attempt"] for row in rows(run) if row["sealed_lines"]} == {2}
    assert messages(run)[0] == "100 more lines were not kept"


def test_a_snoozed_run_keeps_the_lines_of_each_time(worker):
    run = talked(worker, "snoozing")
    assert messages(run) == ["not yet", "not yet"]


def test_what_json_or_postgresql_cannot_hold_is_kept_as_text(worker):
    (line,) = lines(talked(worker, "odd"))
    assert line.message.startswith("odd ")
    assert line.fields["number"] == "nan"
    assert "whose text cannot be made" in line.fields["huge"]
    assert line.fields["deep"] == {"a": {"b": [1, {"c": None}]}}


def test_the_lines_of_a_failed_run_are_kept(worker):
    run = talked(worker, "fails", email=SECRET)
    assert messages(run) == ["about to fail", "about to fail"]


def test_the_lines_of_an_attempt_that_is_killed_are_kept_with_its_number(worker):
    run = send_job(Talk(tenant_id="acme", how="hangs", email=SECRET)).id
    hanging = wait_until(
        lambda: [line for line in lines(run) if line.message == "hanging"], 20, "its lines, while it hangs"
    )

    os.kill(hanging[0].fields["pid"], signal.SIGKILL)
    closed = wait_closed(run)

    assert closed.state == "completed"
    assert [(line.message, line.attempt) for line in lines(run)] == [
        ("about to hang", 1),
        ("hanging", 1),
        ("about to hang", 1),
    ]
    command = [sys.executable, "-m", "cgk_tasks.cli", "runs", "logs", run]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.count("hanging") == 1
    assert SECRET not in shown


def test_a_run_that_takes_seconds_has_each_line_once_and_in_order(worker):
    run = talked(worker, "takes_seconds")
    found = lines(run)
    assert [found[0].message, found[-1].message] == ["begun", "seen"]
    assert [line.fields["number"] for line in found[1:-1]] == list(range(found[-1].fields["lines"]))
    assert len(rows(run)) > 1


def test_lines_are_kept_once_when_a_job_forks(worker):
    assert messages(talked(worker, "forks")) == ["before", "after"]


def test_nothing_is_kept_when_it_is_switched_off(worker, start_worker):
    queue = f"silent-{os.urandom(3).hex()}"
    silent = start_worker(["tests.monitoring.log_jobs"], CGK_RUN_LOGS="false", CGK_DEFAULT_QUEUE=queue)
    run = send_job(Talk(tenant_id="acme", how="all"), queue=queue).id
    wait_closed(run)
    assert rows(run) == []
    assert "by structlog" in silent.log


def test_old_lines_go_with_their_day(database):
    table = partitions.DAILY_TABLES[1]
    today = datetime.now(UTC).date()
    old = today - timedelta(days=400)
    partitions.make_days(old, table)
    with transaction() as connection:
        execute(
            connection,
            "INSERT INTO cgk.run_logs (run_id, tenant_id, attempt, logged_at, size, line_count, sealed_lines)"
            " VALUES (gen_random_uuid(), 'acme', 1, %(at)s, 2, 0, '[]')",
            {"at": datetime(old.year, old.month, old.day, 12, tzinfo=UTC)},
        )
    dropped = partitions.forget_days(today - timedelta(days=90), table)
    assert f"run_logs_{old:%Y%m%d}" in dropped


def test_the_housekeeping_makes_the_partitions_of_the_coming_days(worker):
    def is_made():
        with autocommit() as connection:
            made = {row["name"] for row in fetch(connection, partitions.SQL["partitions"], {"table": "cgk.run_logs"})}
        return f"run_logs_{datetime.now(UTC).date() + timedelta(days=7):%Y%m%d}" in made

    wait_until(is_made)


def test_a_run_that_never_began_has_no_lines(database):
    run = send_job(Talk(tenant_id="acme", how="all"), delay=3600).id
    cancel_job(run)
    assert lines(run) == []
