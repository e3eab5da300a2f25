"""Workers: what each does now; drain, and take runs again."""

from __future__ import annotations

from cgk_tasks.dashboard import actions
from cgk_tasks.dashboard.data.queries import read_transaction
from cgk_tasks.dashboard.live_marks import Topic, mark_of
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.flow.workers import MOST_WORKERS, Worker, list_workers


def _workers() -> list[Worker]:
    with read_transaction() as connection:
        return list_workers(connection=connection)


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / (1 << 20):,.0f} MiB"


_MOST_SHOWN = 100
"""With so many at once the page is long enough; the others are found by their names and queues."""


class WorkersPage(Page):
    """Every worker that has a row: of Celery, inside applications, and of gateways."""

    async def get(self) -> None:
        seen = await self.run_blocking(mark_of, Topic("workers"))
        workers = await self.run_blocking(_workers)
        states, found = [one.state for one in workers], [one for one in workers if self._is_asked_for(one)]
        self.show(
            "workers.html", workers=workers, states={state: states.count(state) for state in dict.fromkeys(states)},
            text=self.field("text"), shown=found[:_MOST_SHOWN], found=len(found),
            is_cut_off=len(workers) == MOST_WORKERS, is_live=self.field("live") != "0", mib=_mib, seen=seen,
        )  # fmt: skip

    def _is_asked_for(self, worker: Worker) -> bool:
        return self.field("text").lower() in " ".join((worker.name, *worker.queues)).lower()


class DrainWorker(Page):
    """Lets a worker take no more runs."""

    async def post(self, worker_id: str) -> None:
        name = await self.run_blocking(actions.drain_worker, self.user, worker_id, self.field("reason"))
        self.redirect_to("/workers", f"{name} takes no more runs, and finishes those that it has.")


class ResumeWorker(Page):
    """Lets it take runs again."""

    async def post(self, worker_id: str) -> None:
        name = await self.run_blocking(actions.resume_worker, self.user, worker_id)
        self.redirect_to("/workers", f"{name} takes runs again.")
