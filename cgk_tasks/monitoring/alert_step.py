"""The thread in a worker's main process that looks for alerts while this worker leads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import structlog
from celery import bootsteps

from cgk_tasks.celery_tasks.bootsteps import SupervisorStep
from cgk_tasks.celery_tasks.supervisors import supervisor_of
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.monitoring.alerts import AlertWatch
from cgk_tasks.recurring import RecurringWarning

if TYPE_CHECKING:
    from celery.worker import WorkController

log = structlog.get_logger("cgk_tasks.alerts")


class AlertStep(bootsteps.StartStopStep):
    """Starts after the supervisor and stops before it. Added where CGK_ALERTS names something."""

    requires = (SupervisorStep,)

    def __init__(self, parent: WorkController, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, worker: WorkController) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._watch, args=(worker,), name="cgk-alerts", daemon=True)
        self._thread.start()

    def stop(self, worker: WorkController) -> None:  # noqa: ARG002
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def terminate(self, worker: WorkController) -> None:
        self.stop(worker)

    def _watch(self, worker: WorkController) -> None:
        watch = AlertWatch()
        unavailable = RecurringWarning(log, "alerts_unavailable", "alerts_available")
        while not self._stopping.wait(get_settings().alert_interval_seconds):
            supervisor = supervisor_of(worker.app)
            if supervisor is None or not supervisor.leads:
                continue
            try:
                watch.look()
                unavailable.is_over()
            except (psycopg.Error, CgkTasksError) as exc:
                unavailable.warn(reason=str(exc).strip())
            except Exception:
                log.exception("alerts_failed")
