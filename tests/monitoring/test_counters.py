"""What the processes of a worker count in the memory that they share."""

import multiprocessing
import threading

import pytest

from cgk_tasks.worker.counters import BUCKETS, OTHER, STATEMENT_BUCKETS, Counters


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


def test_a_statement_falls_into_the_bucket_of_its_duration():
    counted = Counters([], processes=2, statements=["runs.get_run", "transitions.claim"])
    counted.statement("transitions.claim", 0.0004)
    counted.statement("transitions.claim", 30)
    counted.statement("made.later", 1)

    (found,) = counted.statement_durations()

    assert found.statement == "transitions.claim"
    assert (found.counts[STATEMENT_BUCKETS.index(0.0005)], found.counts[-1], sum(found.counts)) == (1, 1, 2)
    assert found.seconds == pytest.approx(30.0004)


def test_statements_and_events_do_not_share_places():
    counted = Counters(["order.created"], processes=1, statements=["transitions.claim"])
    counted.ended("order.created", "unhandled")
    counted.attempt("order.created", "cancelled", 7200)
    assert list(counted.statement_durations()) == []
    counted.statement("transitions.claim", 0.1)
    assert list(counted.ends()) == [("order.created", "unhandled", 1)]
    assert [one.outcome for one in counted.durations()] == ["cancelled"]


def test_what_a_forked_process_counted_stays_when_it_is_gone(counted):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: counted.count("packets", 3))
    child.start()
    child.join(20)
    assert counted.total("packets") == 3
