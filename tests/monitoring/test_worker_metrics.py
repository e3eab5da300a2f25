"""A worker's own metrics, from its processes to HTTP."""

import os
import signal

import pytest

from cgk_tasks import send_job
from tests.monitoring.exposition import attempts, ended, free_port, scrape
from tests.support.jobs import Behave, Nobody, Slow
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def worker(start_worker, port):
    return start_worker(["tests.support.jobs"], concurrency=2, CGK_METRICS_ADDRESS=f"127.0.0.1:{port}")


def behave(action, argument=""):
    return send_job(Behave(tenant_id="acme", action=action, argument=str(argument))).id


def test_a_completed_run_is_counted_with_its_duration(worker, port):
    before = scrape(port)
    wait_closed(behave("sleep", 0.06))
    after = wait_until(lambda: found if ended(found := scrape(port), "test.behave", "completed") else None)

    labels = (("event", "test.behave"), ("outcome", "completed"))
    took = after["cgk_attempt_duration_seconds_sum", *labels] - before.get(
        ("cgk_attempt_duration_seconds_sum", *labels), 0
    )
    assert 0.06 <= took < 5
    assert after[
        "cgk_attempt_duration_seconds_bucket", ("event", "test.behave"), ("le", "+Inf"), ("outcome", "completed")
    ] == (attempts(after, "test.behave", "completed"))


def test_a_retry_is_an_attempt_and_no_end(worker, port):
    before = scrape(port)
    wait_closed(behave("fail_then_succeed", 1))

    def counted():
        now = scrape(port)
        retried = attempts(now, "test.behave", "retry") - attempts(before, "test.behave", "retry")
        completed = ended(now, "test.behave", "completed") - ended(before, "test.behave", "completed")
        return (retried, completed) == (1, 1)

    wait_until(counted)
    assert scrape(port)["cgk_retries_total", ("event", "test.behave")] >= 1


def test_a_failed_run_ends_as_failed(worker, port):
    before = ended(scrape(port), "test.behave", "failed")
    wait_closed(behave("fail_permanently"))
    wait_until(lambda: ended(scrape(port), "test.behave", "failed") == before + 1)


def test_a_run_without_a_job_ends_as_unhandled(worker, port):
    wait_closed(send_job(Nobody(tenant_id="acme")).id)
    wait_until(lambda: ended(scrape(port), "test.nobody", "unhandled") == 1)


def test_a_hard_time_limit_counts_as_a_failed_attempt(worker, port):
    wait_closed(send_job(Slow(tenant_id="acme", seconds=30, stubborn=True)).id, timeout=30)
    wait_until(lambda: attempts(scrape(port), "test.slow", "failed") == 1)


def test_a_killed_child_takes_no_figure_with_it(worker, port):
    wait_closed(behave("echo"))
    before = scrape(port)
    for child in worker.children():
        os.kill(child.pid, signal.SIGKILL)
    wait_closed(behave("echo"), timeout=40)
    after = wait_until(
        lambda: found if attempts(found := scrape(port), "test.behave", "completed")
        == attempts(before, "test.behave", "completed") + 1 else None
    )  # fmt: skip
    assert all(after[name] >= number for name, number in before.items() if "connections" not in name[0])


def test_a_run_that_kills_its_process_counts_as_a_death(worker, port, tmp_path):
    before = scrape(port)["cgk_run_deaths_total",]
    wait_closed(behave("kill_self_once", tmp_path / "flag"), timeout=40)
    assert scrape(port)["cgk_run_deaths_total",] == before + 1


def test_claims_and_connections_are_shown(worker, port):
    wait_closed(behave("echo"))
    found = scrape(port)
    assert found["cgk_packet_runs_total",] >= found["cgk_packets_total",] > 0
    assert 0 < found["cgk_database_connections",] <= 3 * found["cgk_database_connections_limit",]


def test_statements_of_sql_are_timed_by_name(worker, port):
    wait_closed(behave("echo"))

    def number(statement):
        return scrape(port).get(("cgk_sql_statement_duration_seconds_count", ("statement", statement)), 0)

    wait_until(lambda: number("transitions.claim_one") and number("transitions.finish_one"))
    assert number("dispatch.heartbeat") > 0
    assert scrape(port)["cgk_sql_statement_duration_seconds_sum", ("statement", "transitions.claim_one")] > 0


def test_a_taken_port_does_not_stop_a_worker(worker, port, start_worker):
    second = start_worker(["tests.support.jobs"], concurrency=1, CGK_METRICS_ADDRESS=f"127.0.0.1:{port}")
    assert "metrics_not_served" in second.log
    assert second.stop() == 0


def test_a_pool_of_threads_is_counted_too(start_worker, worker):
    own = free_port()
    threads = start_worker(
        ["tests.support.jobs"], concurrency=2, pool="threads",
        CGK_METRICS_ADDRESS=f"127.0.0.1:{own}", CGK_DEFAULT_QUEUE=f"threads-{own}",
    )  # fmt: skip
    run = send_job(Behave(tenant_id="acme", action="echo"), queue=f"threads-{own}").id
    wait_closed(run)
    wait_until(lambda: ended(scrape(own), "test.behave", "completed") == 1)
    threads.stop()
