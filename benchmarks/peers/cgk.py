"""cgk_tasks, with packets as they come, on the same footing as the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from draining import SPAN
from harness import OURS, PACKETS, celery_worker
from sends import mark_ours, ours_order, send_ours

from cgk_tasks import send_jobs
from cgk_tasks.sql.postgres import autocommit
from peers.peer import Peer


class CgkTasks(Peer):
    name = "cgk_tasks"
    packages = ("cgk-tasks", "celery")
    how = "`celery worker -c 2`, prefork"
    guarantees = (
        "Durable in PostgreSQL; losing Redis loses nothing. At least once: "
        "a killed process's runs go again after 1 s, a "
        "killed worker's after 30 s; writes with `ctx.db` exactly once. Tenant context, checked payload, "
        "every run in the history."
    )
    environment: ClassVar = dict([PACKETS])

    def prepare(self) -> None:
        from throughput import learn_run_times

        learn_run_times()

    def mark(self, since: float) -> None:
        mark_ours(since)

    def send(self, number: int) -> None:
        send_ours(number)

    def send_many(self, count: int) -> None:
        send_jobs(map(ours_order, range(count)))

    def commands(self) -> list[list[str]]:
        return [celery_worker(*OURS)]

    def span(self, marks: Sequence[float]) -> tuple[float, float]:
        """By the record: what came before a crowded queue's backlog and behind it does not wait for it."""
        del marks
        with autocommit() as connection:
            return connection.execute(SPAN, ("order.created",)).fetchone()

    def left(self) -> int:
        with autocommit() as connection:
            return connection.execute("SELECT count(*) FROM cgk.runs").fetchone()[0]


PEERS = [CgkTasks()]
