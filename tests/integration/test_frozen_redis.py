"""A Redis that neither answers nor refuses: sends hardly wait for it, and nothing is lost."""

import threading
import time
from itertools import pairwise

import psutil
import pytest

from cgk_tasks import send_job
from cgk_tasks.broker.publisher import close_publishers
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed

A_SEND_AT_MOST = 1.0
"""Half a second for the broker; the rest for PostgreSQL on a busy machine."""


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("worker_on_own_broker")]


@pytest.fixture
def frozen(own_broker):
    """It was used before, so there is a connection; and no send failed a moment ago."""
    close_publishers()
    wait_closed(send("before").id)
    process = psutil.Process(own_broker.pid)
    process.suspend()
    yield process
    process.resume()


def send(argument):
    return send_job(Behave(tenant_id="acme", action="echo", argument=argument))


def timed_send(argument):
    begun = time.monotonic()
    handle = send(argument)
    return time.monotonic() - begun, handle.id


def test_a_send_waits_half_a_second_and_those_after_it_not_at_all(frozen):
    first, _ = timed_send("first")
    begun = time.monotonic()
    later = [timed_send(str(number))[0] for number in range(20)]
    spent = time.monotonic() - begun
    assert 0.3 < first < A_SEND_AT_MOST
    # One try a second, of half a second each, at most.
    assert sum(seconds > 0.3 for seconds in later) <= 1 + spent


def test_a_new_connection_waits_no_longer(frozen):
    close_publishers()
    assert timed_send("new")[0] < A_SEND_AT_MOST


def test_of_many_threads_one_tries_and_the_others_do_not_queue_up_behind_it(frozen):
    times = []
    until = time.monotonic() + 6.0

    def send_all_the_time():
        while time.monotonic() < until:
            seconds, _ = timed_send("thread")
            times.append((time.monotonic(), seconds))

    threads = [threading.Thread(target=send_all_the_time) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seconds for _, seconds in times) < A_SEND_AT_MOST
    # At first all of them may try; after that one tries every 1.5 s, with what others send in the same moment.
    ends = sorted(end for end, seconds in times if seconds > 0.4)
    tries = sum(later - earlier > 0.25 for earlier, later in pairwise(ends))
    assert tries <= 6
    assert len(ends) < len(times) / 4


def test_what_was_sent_meanwhile_runs_when_it_answers_again(frozen):
    runs = [timed_send(str(number))[1] for number in range(5)]
    frozen.resume()
    assert [wait_closed(run_id, 30).result for run_id in runs] == [str(number) for number in range(5)]
