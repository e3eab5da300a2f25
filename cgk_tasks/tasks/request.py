"""A message in the worker's main process: which runs it carries, and what happens when its time limit kills it."""

from __future__ import annotations

from celery.worker.request import Request

from cgk_tasks.runs.envelope import PACKET_HEADER
from cgk_tasks.runs.models import run_id_of


class PacketRequest(Request):
    """Celery's request, which also tells the steward of a hard time limit: the child cannot report its own death."""

    @property
    def run_ids(self) -> list[str]:
        """The runs of this message."""
        if PACKET_HEADER in self.request_dict:
            ids: list[str] = self.args[0]
            return ids
        return [run_id_of(self.id)]

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            from cgk_tasks.tasks.worker import steward_of

            steward = steward_of(self.task.app)
            if steward is not None:
                steward.timed_out(self.run_ids, timeout)
        super().on_timeout(soft, timeout)
