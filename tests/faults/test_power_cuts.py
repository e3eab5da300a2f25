"""Everything is killed at the same moment, and started again."""

import uuid

import psycopg
import pytest

from cgk_tasks.sql.postgres import autocommit, fetch
from tests.faults.journal import once, rows_written, wait_completed
from tests.support.waiting import wait_until


class TestPatientWorkers:
    """Workers whose silence would mean nothing for minutes."""

    @pytest.fixture
    def worker_environment(self):
        return {"CGK_WORKER_TIMEOUT_SECONDS": "300"}

    def test_a_new_worker_does_not_wait_for_those_of_its_machine_whose_processes_are_gone(
        self, worker, postgres, broker, journal
    ):
        waiting = journal.send(5)
        running = journal.send(2, seconds=3.0, priority=9)
        journal.wait_at_work(running, 2)
        worker.kill_group()
        postgres.kill()
        broker.kill()
        postgres.start()
        broker.start()
        worker.restart()
        wait_completed([*running, *waiting], 60)
        assert rows_written([*running, *waiting]) == once([*running, *waiting])
        assert journal.overlaps == []

    @pytest.mark.parametrize("worker_count", [2])
    def test_a_worker_that_is_killed_alone_is_not_waited_for_either(self, workers, journal):
        runs = journal.send(4, seconds=6.0)  # so long that all are under way on a slow machine
        journal.wait_at_work(runs, 4)
        workers[0].kill()
        wait_completed(runs, 60)
        assert rows_written(runs) == once(runs)
        assert journal.overlaps == []

    @pytest.mark.parametrize("worker_count", [3])
    def test_leaders_that_die_one_after_another_hold_nothing_up(self, workers, journal):
        runs = journal.send(4, delay=1.0)
        for _ in range(2):
            leader_of(workers).kill()
        wait_completed(runs, 60)
        assert rows_written(runs) == once(runs)


def leader_of(workers):
    """The living worker that dispatches, as soon as there is one."""

    def find():
        with autocommit() as connection:
            rows = fetch(connection, "SELECT w.pid FROM cgk.leases l JOIN cgk.workers w ON w.id = l.holder")
        pids = {row["pid"] for row in rows}
        return next(
            (node for node in workers if node.container.status == "running" and node.container.worker.pid in pids), None
        )

    return wait_until(find, 30, "a leader")


def test_the_log_names_a_worker_of_elsewhere_that_all_claims_wait_for(worker, postgres, services, journal):
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, pid_namespace, process_started, heartbeat_at)"
            " VALUES (%s, 'w1@elsewhere', 1, '{}', 'another machine', 1, now() + interval '5 s')",
            [uuid.uuid4()],
        )
    postgres.kill()
    postgres.start()
    runs = journal.send(5)
    wait_until(lambda: "claims_wait_for_workers" in worker.logs(), 20, "the line")
    wait_completed(runs, 40)
    wait_until(lambda: "claims_go_on" in worker.logs(), 20, "the line that it is over")
    line = next(line for line in worker.logs().splitlines() if "claims_wait_for_workers" in line)
    assert "w1@elsewhere, silent for" in line
