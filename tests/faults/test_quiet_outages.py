"""What a worker's log says while Redis is away: nothing that sounds like a loss, and nothing again and again."""

import json
from collections import Counter

import pytest

from cgk_tasks import send_job
from tests.faults.journal import wait_completed
from tests.support.waiting import wait_until
from tests.support.workers import running_worker

pytestmark = pytest.mark.slow


@pytest.fixture
def worker(celery_broker_cluster, celery_backend_cluster, queue, tmp_path):
    """As people start it, with a folder for temporary files of its own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    with running_worker(["tests.faults.jobs"], gossips=True, TMPDIR=str(folder)) as worker:
        worker.temporary_files = folder
        yield worker


def events_of(worker):
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    return Counter(line["message"] for line in lines), [line for line in lines if "exception" in line]


def assert_nothing_sounds_like_a_loss(worker):
    _, tracebacks = events_of(worker)
    assert tracebacks == []
    assert "UNABLE TO RESTORE" not in worker.log
    assert "EMERGENCY DUMP" not in worker.log
    assert [path for path in worker.temporary_files.iterdir() if path.is_file()] == []


def test_an_outage_is_said_once_and_nothing_sounds_like_a_loss(worker, broker_node, journal):
    long = journal.send(2, seconds=3.0)
    journal.wait_at_work(long, 2)
    fetched = journal.send(3)
    broker_node.kill()
    due_meanwhile = [send_job(journal.work(number), delay=0.5).id for number in range(5)]
    wait_until(lambda: events_of(worker)[0]["dispatch_postponed"], what="a failed dispatch")
    wait_until(lambda: worker.log.count("Cannot connect to") >= 3, 40, "some seconds")
    said, _ = events_of(worker)
    broker_node.start()
    wait_completed([*long, *fetched, *due_meanwhile], 60)
    assert said["dispatch_postponed"] == 1
    assert events_of(worker)[0]["dispatch_goes_on"] == 1
    assert_nothing_sounds_like_a_loss(worker)


def test_a_worker_that_stops_meanwhile_says_in_one_line_that_it_could_not_give_messages_back(
    worker, broker_node, journal
):
    long = journal.send(2, seconds=3.0)
    journal.wait_at_work(long, 2)
    fetched = [send_job(journal.work(number)).id for number in range(3)]
    broker_node.kill()
    assert worker.stop(60) == 0
    broker_node.start()
    assert_nothing_sounds_like_a_loss(worker)
    assert worker.log.count("were not put back") <= 1
    with running_worker(["tests.faults.jobs"]):
        wait_completed([*long, *fetched], 60)
