"""What the processes of a worker count in the memory that they share."""

import multiprocessing
import threading

import pytest

from cgk_tasks.worker.counters import BUCKETS, OTHER, Counters


@pytest.fixture
def counted():
    return Counters(["order.created"], processes=2)


def test_an_attempt_falls_into_the_bucket_of_its_duration(counted):
    counted.attempt("order.created", "completed", 0.02)
    counted.attempt("order.created", "completed", 5000)

    (found,) = counted.durations()

    assert found.counts[BUCKETS.index(0.025)] == 1
    assert found.counts[-1] == 1
    assert found.seconds == pytest.approx(5000.02)


def test_a_duration_on_a_bound_belongs_below_it(counted):
    counted.attempt("order.created", "failed", 0.1)
    (found,) = counted.durations()
    assert found.counts[BUCKETS.index(0.1)] == 1


def test_an_event_that_was_not_known_at_the_start_counts_as_other(counted):
    counted.ended("made.later", "failed")
    assert list(counted.ends()) == [(OTHER, "failed", 1)]


def test_threads_of_one_process_lose_no_count(counted):
    threads = [
        threading.Thread(target=lambda: [counted.ended("order.created", "completed") for _ in range(2000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(counted.ends()) == [("order.created", "completed", 8000)]


def test_what_a_forked_process_counted_stays_when_it_is_gone(counted):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: counted.count("packets", 3))
    child.start()
    child.join(20)
    assert counted.total("packets") == 3
