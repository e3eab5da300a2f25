"""A message in the worker's main process: which runs it carries, and what becomes of it."""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # its types do not know it
from billiard.exceptions import Terminated, WorkerLostError
from celery.worker.request import Request
from celery.worker.state import task_ready

from cgk_tasks.broker.envelope import PACKET_HEADER, TENANT_HEADER
from cgk_tasks.celery_tasks import consumption
from cgk_tasks.celery_tasks.limits import limits_of_message
from cgk_tasks.celery_tasks.pool_writes import write_at_once
from cgk_tasks.celery_tasks.supervisors import supervisor_of
from cgk_tasks.errors import RunCancelledError
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.worker.pipeline import NotClaimedError

_DEATHS = (Terminated, WorkerLostError, SystemExit)
"""What billiard says of a message whose child died: the worker killed it, somebody else did, or it left by itself."""


class _Untimed:
    """A pool that sets no timers for a message: each of its runs has limits of its own."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def apply_async(self, target: Any, **options: Any) -> Any:
        options["timeout"] = options["soft_timeout"] = None
        return self._pool.apply_async(target, **options)


class PacketRequest(Request):
    """Celery's request. A message whose runs could not be claimed goes back to the broker."""

    is_given_back = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Celery makes a class of each task's messages, whose `execute_using_pool` would go past the one here."""
        super().__init_subclass__(**options)
        if "execute_using_pool" in vars(cls):
            delattr(cls, "execute_using_pool")

    def execute_using_pool(self, pool: Any, **options: Any) -> Any:
        """Hand the message to the pool, and at once to a child: Celery's timers are for messages without runs."""
        if self._has_runs:
            untimed: Any = _Untimed(pool)
            executed = super().execute_using_pool(untimed, **options)
        else:
            limits: Any = limits_of_message(self.task, self.request_dict)
            self.time_limits = limits
            executed = super().execute_using_pool(pool, **options)
        write_at_once(pool)
        app: Any = self.app
        if (supervisor := supervisor_of(app)) is not None:
            supervisor.begin()
        return executed

    def revoked(self) -> bool:
        """Whether the message is dropped. Of a run the record says that, and whose it is: what this process remembers
        of Celery's `revoke` is ids alone, which any tenant may have named. A message of another producer expires here,
        before there is a run.
        """
        if not self._has_runs:
            return bool(super().revoked())
        is_packet = PACKET_HEADER in self.request_dict
        return not is_packet and bool(self.maybe_expire()) and bool(super().revoked())

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Likewise: the child may be at other tenants' runs, and whoever cancels one on record has it interrupted."""
        if not self._has_runs:
            super().terminate(pool, signal)

    @property
    def run_ids(self) -> list[str]:
        """The runs of this message."""
        if PACKET_HEADER in self.request_dict:
            ids: list[str] = self.args[0]
            return ids
        return [run_id_of(self.id)]

    @property
    def _has_runs(self) -> bool:
        return bool(getattr(self.task, "durable", False))

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

    def info(self, safe: bool = False) -> Any:
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
        exc = exc_info.exception
        if isinstance(exc, ExceptionWithTraceback):
            exc = exc.exc
        if isinstance(exc, NotClaimedError):
            task_ready(self)
            consumption.refused(self.task.app, self)
            return None
        if self._has_runs and not return_ok and isinstance(exc, _DEATHS):
            self._child_died(exc)
            return None
        if self._has_runs and isinstance(exc, RunCancelledError):
            self._done("task-revoked", terminated=True, signum="SIGTERM", expired=False)
            return None
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _child_died(self, exc: BaseException) -> None:
        """The child is dead, so the main process reports for it. What becomes of each run is on record, and the hooks
        and signals of a task are about that: Celery would call them here with the ids of the runs for arguments.
        """
        self._done("task-failed", exception=repr(exc), traceback="")

    def _done(self, event: str, **fields: Any) -> None:
        task_ready(self)
        if self.task.acks_late:
            self.acknowledge()
        self.send_event(event, **fields)
