"""A deployment moves to another broker while runs are open."""

import os
from pathlib import Path

import pytest

from cgk_tasks import reset_job_client
from cgk_tasks.broker.publisher import close_publishers
from cgk_tasks.config import use_settings
from cgk_tasks.embedded.redis_server import RedisServer
from cgk_tasks.flow.rebuild import rebuild_broker
from tests.faults.conftest import MODULES
from tests.faults.journal import once, rows_written, states, wait_completed
from tests.support.rabbitmq import RabbitServer, find_rabbitmq
from tests.support.waiting import wait_until
from tests.support.workers import running_worker


@pytest.fixture(params=["redis", "rabbitmq"])
def other_broker(request, tmp_path_factory):
    """The URL of a broker that nobody uses yet."""
    if request.param == "redis":
        folder: Path = tmp_path_factory.mktemp("other-redis")
        server = RedisServer(folder, log=folder / "log", owner_pid=os.getpid())
        server.start()
        yield server.url
        server.stop()
        return
    program = find_rabbitmq()
    if program is None:
        pytest.skip("there is no rabbitmq-server on this machine")
    rabbit = RabbitServer(program)
    yield rabbit.url
    rabbit.close()


@pytest.fixture
def move(monkeypatch):
    """From now on this process sends to another broker, as a new deployment of it would."""

    def to(url: str) -> None:
        monkeypatch.setenv("CGK_BROKER_URL", url)
        use_settings(None)
        reset_job_client()
        close_publishers()

    yield to
    monkeypatch.undo()
    use_settings(None)
    reset_job_client()
    close_publishers()


def test_runs_of_the_old_broker_are_executed_once_each_after_a_move(other_broker, move, journal):
    with running_worker(MODULES) as old:
        runs = journal.send(200, seconds=0.05)
        delayed = journal.send(10, delay=2.0)
        wait_until(lambda: states(runs)["completed"] > 20, 20, "the old worker is at it")
        move(other_broker)
        with running_worker(MODULES):  # beside the old one: both brokers are served
            runs += journal.send(50, seconds=0.01)
            assert old.stop() == 0
            rebuild_broker()  # what the old worker left in the old broker
            runs += [*delayed, *journal.send(5)]
            wait_completed(runs, 60)
    assert rows_written(runs) == once(runs)
    assert journal.overlaps == []


def test_a_rebuild_that_was_not_needed_executes_nothing_twice(other_broker, move, journal):
    move(other_broker)
    with running_worker(MODULES):
        runs = journal.send(100, seconds=0.02)
        for _ in range(3):
            rebuild_broker()
        wait_completed(runs, 60)
    assert rows_written(runs) == once(runs)
    assert journal.starts(runs) == once(runs)
    assert journal.overlaps == []
