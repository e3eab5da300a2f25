"""Queues: what waits in each, who listens; pause and resume."""

from __future__ import annotations

from cgk_tasks.flow.queues import Queue, list_queues
from cgk_tasks.monitoring.dashboard import actions
from cgk_tasks.monitoring.dashboard.data.reading import reading
from cgk_tasks.monitoring.dashboard.pages.page import Page


def _queues() -> list[Queue]:
    with reading() as connection:
        return list_queues(connection)


class QueuesPage(Page):
    """Every queue that is in use, paused or named by the settings."""

    async def get(self) -> None:
        self.show("queues.html", queues=await self.ask(_queues))


class PauseQueue(Page):
    """Holds a queue's runs. Its name comes with the form: it may have any character."""

    async def post(self) -> None:
        name = self.get_argument("queue", "", strip=False)
        await self.ask(actions.pause_queue, self.person, name, self.field("reason"))
        self.go("/queues", f"{name} is paused: nothing in it starts; what is sent waits.")


class ResumeQueue(Page):
    """Lets a queue's runs go on."""

    async def post(self) -> None:
        name = self.get_argument("queue", "", strip=False)
        await self.ask(actions.resume_queue, self.person, name)
        self.go("/queues", f"{name} is active: what was held is released within a second or two.")
