"""One of two workers loses PostgreSQL, and the other does not."""

import pytest

from cgk_tasks import send_job
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.faults.journal import wait_completed
from tests.support.waiting import wait_until


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def broker_name(request) -> str:
    return request.param


def dispatched_again(run_ids):
    statement = "SELECT count(*) AS runs FROM cgk.run_history WHERE id = ANY(%(ids)s::uuid[]) AND hand_overs > 1"
    with autocommit() as connection:
        return fetch(connection, statement, {"ids": list(run_ids)})[0]["runs"]


def send_until(journal, is_over):
    """Single runs, one after another. Returns their ids."""
    runs = []

    def send_one():
        runs.append(send_job(journal.work(len(runs), writes=False)).id)
        return is_over()

    wait_until(send_one, 60, "what the sends wait for")
    return runs


@pytest.mark.parametrize("how", ["swallow", "refuse"])
def test_it_leaves_messages_to_the_other_says_so_and_works_again_when_it_is_back(
    worker, far_worker, proxy, journal, how
):
    getattr(proxy, how)()
    runs = send_until(journal, lambda: "worker_fenced" in far_worker.logs())
    runs += [send_job(journal.work(number, writes=False)).id for number in range(300)]
    wait_completed(runs, 15)
    stopped = far_worker.logs().count("consumption_stopped")
    again = dispatched_again(runs)
    proxy.pass_on()
    wait_until(lambda: "consumption_resumed" in far_worker.logs(), 20, "the worker consumes again")
    worker.kill_group()
    wait_completed([send_job(journal.work(number, writes=False)).id for number in range(10)], 30)
    assert stopped == 1
    assert again < len(runs) / 10
