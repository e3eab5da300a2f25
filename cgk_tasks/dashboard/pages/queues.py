"""Queues: what waits in each and why, who listens; pause and resume."""

from __future__ import annotations

from tornado.web import HTTPError

from cgk_tasks.dashboard import actions
from cgk_tasks.dashboard.data.lanes import COUNT_TO
from cgk_tasks.dashboard.data.queries import read_transaction
from cgk_tasks.dashboard.data.queue_view import queue_view
from cgk_tasks.dashboard.live_marks import Topic, mark_of
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.flow.queues import Queue, list_queues
from cgk_tasks.runs.models import is_queue_name


def _queues() -> list[Queue]:
    with read_transaction() as connection:
        return list_queues(connection)


class QueuesPage(Page):
    """Every queue that is in use, paused or named by the settings."""

    async def get(self) -> None:
        self.show("queues.html", queues=await self.run_blocking(_queues))


class QueuePage(Page):
    """What decides who may start in one queue: its window, lanes, gates and shares. Of one tenant alone, if asked."""

    async def get(self) -> None:
        queue, tenant = self.get_argument("queue", "", strip=False), self.field("tenant")
        if not is_queue_name(queue):
            raise HTTPError(400, "Choose a queue on the page of queues.")
        seen = await self.run_blocking(mark_of, Topic("queue", queue))
        view = await self.run_blocking(queue_view, queue, tenant or None)
        self.show("queue.html", view=view, seen=seen, tenant=tenant, count_to=COUNT_TO)


class PauseQueue(Page):
    """Holds a queue's runs. Its name comes with the form: it may have any character."""

    async def post(self) -> None:
        name = self.get_argument("queue", "", strip=False)
        await self.run_blocking(actions.pause_queue, self.user, name, self.field("reason"))
        self.redirect_to("/queues", f"{name} is paused: nothing in it starts; what is sent waits.")


class ResumeQueue(Page):
    """Lets a queue's runs go on."""

    async def post(self) -> None:
        name = self.get_argument("queue", "", strip=False)
        await self.run_blocking(actions.resume_queue, self.user, name)
        self.redirect_to("/queues", f"{name} is active: what was held is released within a second or two.")
