"""Queues: what waits in each, who listens; pause and resume."""

from __future__ import annotations

from cgk_tasks.dashboard import actions
from cgk_tasks.dashboard.data.queries import read_transaction
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.flow.queues import Queue, list_queues


def _queues() -> list[Queue]:
    with read_transaction() as connection:
        return list_queues(connection)


class QueuesPage(Page):
    """Every queue that is in use, paused or named by the settings."""

    async def get(self) -> None:
        self.show("queues.html", queues=await self.run_blocking(_queues))


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
