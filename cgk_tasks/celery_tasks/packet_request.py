"""A message in the worker's main process: which runs it carries, and what happens when its time limit kills it."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request
from celery.worker.state import task_ready

from cgk_tasks.broker.envelope import PACKET_HEADER, TENANT_HEADER
from cgk_tasks.celery_tasks import consumption
from cgk_tasks.celery_tasks.supervisors import supervisor_of
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.worker.pipeline import NotClaimedError


class PacketRequest(Request):
    """Celery's request, which also tells the supervisor of a hard time limit: the child cannot report its own death. A
    message whose runs could not be claimed goes back to the broker.
    """

    is_given_back = False

    @property
    def run_ids(self) -> list[str]:
        """The runs of this message."""
        if PACKET_HEADER in self.request_dict:
            ids: list[str] = self.args[0]
            return ids
        return [run_id_of(self.id)]

    @property
    def argsrepr(self) -> str:
        """What events and logs show of the arguments. A message of another producer may have its payload in there."""
        headers = self.request_dict
        if PACKET_HEADER in headers:
            return str(headers.get("argsrepr", ""))
        return f"(tenant={headers[TENANT_HEADER]})" if headers.get(TENANT_HEADER) else "()"

    @property
    def kwargsrepr(self) -> str:
        return "{}"

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What `inspect` asks workers for. The answer goes through the broker: it names runs, and never their
        arguments. run_ids: None for a message without a record.
        """
        durable = getattr(self.task, "durable", True)
        told: dict[str, Any] = {
            **super().info(safe=safe),
            "run_ids": self.run_ids if durable else None,
            "tenant": self.request_dict.get(TENANT_HEADER),
        }
        return told | {"args": self.argsrepr, "kwargs": self.kwargsrepr} if durable else told

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name
        """Events go to the broker and into Flower: without texts that may quote a payload. The record has them
        whole.
        """
        if "exception" in fields:
            fields["exception"] = str(fields["exception"]).partition("(")[0] + "()"
        for name in ("traceback", "result"):
            if name in fields:
                fields[name] = ""
        super().send_event(type, **fields)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        if isinstance(exc_info.exception, NotClaimedError):
            task_ready(self)
            consumption.refused(self.task.app, self)
            return None
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            supervisor = supervisor_of(self.task.app)
            if supervisor is not None:
                supervisor.timed_out(self.run_ids, timeout)
        super().on_timeout(soft, timeout)
