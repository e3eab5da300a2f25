"""The faults of the soak tests: each happens once, to a system at work, and is over when its function returns."""

import json
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

import redis

from cgk_tasks import embedded
from cgk_tasks.errors import StoreError
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.faults.proxy import Proxy
from tests.support.nodes import kill_group
from tests.support.waiting import wait_exit, wait_until
from tests.support.workers import Worker


@dataclass
class System:
    """Servers and two workers, of which the second reaches PostgreSQL through a proxy."""

    services: embedded.Services
    workers: list[Worker]
    proxy: Proxy
    queue: str
    start_worker: Callable[[int], Worker]
    ended: Callable[[], int]
    """How many runs have ended."""

    def wait_progress(self, runs: int = 50) -> None:
        """Until so many runs more have ended, or all that there are."""
        before = self.ended()
        wait_until(lambda: self.ended() >= min(before + runs, 3000), 60, f"{runs} more runs ended after {before}")

    def replace(self, number: int) -> None:
        self.workers[number] = self.start_worker(number)


def a_child_is_killed(system: System) -> None:
    children = [child for worker in system.workers for child in worker.children()]
    random.choice(children).kill()
    system.wait_progress()


def a_worker_is_killed(system: System) -> None:
    """With all its processes; in turn the one that leads and the other, as chance has it."""
    number = random.randrange(2)
    kill_group(system.workers[number].pid)
    system.workers[number].process.wait()
    system.wait_progress()
    system.replace(number)


def a_main_process_is_stopped(system: System) -> None:
    """Until the other worker has taken its runs, or would have."""
    stopped = system.workers[0]
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not _is_alive(stopped.name), 30, "the stopped worker counted as dead")
        system.wait_progress()
    finally:
        stopped.process.send_signal(signal.SIGCONT)


def _is_alive(name: str) -> bool:
    statement = """
        SELECT FROM cgk.workers WHERE name = %(name)s AND heartbeat_at > now() - interval '3 s'
    """
    with autocommit() as connection:
        return bool(fetch(connection, statement, {"name": name}))


def redis_is_killed_and_flushed(system: System) -> None:
    system.services.redis.kill()
    system.services.redis.start()
    with redis.Redis.from_url(system.services.broker_url) as client:
        client.flushall()


def postgres_crashes(system: System) -> None:
    system.services.postgres.kill()
    system.services.postgres.start()
    system.wait_progress()


def all_connections_are_ended(system: System) -> None:
    statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"

    def end_them() -> bool:
        try:
            with autocommit() as connection:
                connection.execute(statement)
        except StoreError:
            return False
        return True

    wait_until(end_them, 20, "all connections ended")
    system.wait_progress()


def a_worker_is_cut_off_from_postgres(system: System) -> None:
    cut_off = system.workers[1]
    system.proxy.swallow()
    try:
        wait_until(lambda: not _is_alive(cut_off.name), 30, "the worker that is cut off counted as dead")
        system.wait_progress()
    finally:
        system.proxy.pass_on()


JUNK = ("***", "[]", "null", "5", "{", json.dumps({"body": "***", "headers": {}}), "\x00\x01", "", "[1, 2]", "{}")


def junk_arrives(system: System) -> None:
    with redis.Redis.from_url(system.services.broker_url) as client:
        client.lpush(system.queue, *JUNK)
    system.wait_progress()


def a_deploy(system: System) -> None:
    """A new worker takes the place of each, one after the other."""
    for number, old in enumerate(list(system.workers)):
        old.process.send_signal(signal.SIGTERM)
        system.replace(number)
        assert wait_exit(old.process, 60) == 0
