"""A worker's main process, or all of its processes, are stopped and go on later, while another worker is well."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cgk_tasks import get_job_status, send_job
from tests.faults.jobs import Steps
from tests.faults.journal import is_alive, once, wait_completed
from tests.support.nodes import WorkerNode
from tests.support.waiting import wait_until
from tests.support.workers import Worker


@contextmanager
def stopped(pid: int, whole_group: bool = False) -> Iterator[None]:
    """A process that stands still inside of the block, as one does that hangs."""
    send = os.killpg if whole_group else os.kill
    send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        send(pid, signal.SIGCONT)


def node_of(workers, pid):
    return next(node for node in workers if pid in [child.pid for child in node.children()])


@pytest.mark.parametrize("worker_count", [2])
def test_the_child_of_a_hung_main_process_ends_its_run_before_the_other_worker_begins_it(workers, journal):
    (run,) = journal.send(1, seconds=8.0, writes=False)  # longer than the time after which a silent worker's are taken
    (child,) = journal.wait_at_work([run])
    with stopped(node_of(workers, child).worker.pid):
        wait_until(lambda: journal.starts([run])[run] > 1, 20, "the run taken over")
        ended = not is_alive(child)
    wait_completed([run], 40)
    assert ended
    assert journal.overlaps == []
    assert journal.ends([run]) == once([run])


@pytest.mark.parametrize("worker_count", [2])
def test_a_hung_worker_that_goes_on_works_again(workers, journal):
    first, second = workers
    (run,) = journal.send(1, seconds=8.0, writes=False)
    (child,) = journal.wait_at_work([run])
    hung = node_of(workers, child)
    with stopped(hung.worker.pid):
        wait_until(lambda: not is_alive(child), 10, "the child ended")
    other = second if hung is first else first
    other.kill_group()
    wait_completed([run, *journal.send(5, writes=False)], 60)
    assert journal.overlaps == []


@pytest.mark.parametrize("worker_count", [2])
def test_a_worker_that_is_stopped_whole_ends_its_run_when_it_goes_on(workers, journal):
    run = send_job(Steps(tenant_id="acme", journal=str(journal.folder), seconds=6.0)).id
    (child,) = journal.wait_at_work([run])
    with stopped(node_of(workers, child).worker.pid, whole_group=True):
        wait_until(lambda: journal.starts([run])[run] > 1, 20, "the run taken over")
    wait_until(lambda: not is_alive(child), 5, "the first attempt ended")
    wait_completed([run], 40)
    assert journal.ends([run]) == once([run])


class TestJobsInTheMainProcess:
    """Pools whose jobs share the main process can only be interrupted between two steps of Python."""

    @pytest.fixture(params=["threads", "solo"])
    def hung(self, queue, worker, request) -> Iterator[WorkerNode]:
        worker.kill("SIGTERM")
        assert worker.wait_exit() == 0
        node = WorkerNode(Worker(["tests.faults.jobs"], pool=request.param))
        node.ready()
        yield node
        node.teardown()

    def test_a_stopped_worker_interrupts_its_run_when_it_goes_on(self, hung, journal):
        run = send_job(Steps(tenant_id="acme", journal=str(journal.folder), seconds=6.0)).id
        journal.wait_at_work([run])
        with stopped(hung.worker.pid):
            other = WorkerNode(Worker(["tests.faults.jobs"]))
            other.ready()
            wait_until(lambda: journal.starts([run])[run] > 1, 30, "the run taken over")
        wait_completed([run], 40)
        other.teardown()
        status = get_job_status(run)
        assert (status.attempt, status.deaths) == (2, 1)
        assert journal.ends([run]) == once([run])
