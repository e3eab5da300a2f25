"""A worker's heartbeat on record, and the fence that stops the worker's runs when heartbeats do not get through.

Others take over the runs of a worker that is silent for `worker_timeout_seconds`. So that no run executes twice at
once, a worker that cannot make itself heard stops its own runs before that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.worker.missing_tables import MissingTables

log = structlog.get_logger("cgk_tasks.heartbeat")

_FENCE_AT = 0.8
"""Part of the timeout after which the worker stops its runs; the rest is time for the stopping."""
_LOOKS = 20


class Heartbeat:
    """Two threads: one waits for PostgreSQL (which may neither answer nor refuse), the other one waits for nobody."""

    def __init__(
        self,
        beat: Callable[[], None],
        fence: Callable[[], None],
        unfence: Callable[[], None],
        tables: MissingTables,
    ) -> None:
        settings = get_settings()
        self._tables = tables
        self._failing = RecurringWarning(log, "heartbeat_failed", "heartbeat_back")
        self._beat, self._fence, self._unfence = beat, fence, unfence
        self._interval = settings.heartbeat_seconds
        self._timeout = settings.worker_timeout_seconds
        self._last_beat = time.monotonic()
        self._in_touch_since: float | None = None
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_beating, name="cgk-heartbeat", daemon=True),
            threading.Thread(target=self._watch, name="cgk-fence", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout)

    @property
    def may_judge(self) -> bool:
        """Whether silence of others means anything: after an outage all are silent until they had time to beat."""
        since = self._in_touch_since
        return since is not None and time.monotonic() - since > self._timeout

    def _keep_beating(self) -> None:
        while not self._stopping.is_set():
            asked_at = time.monotonic()  # not later than the time that the record notes
            try:
                self._beat()
            except (psycopg.Error, CgkTasksError) as exc:
                self._in_touch_since = None
                if not self._tables.explains(exc):
                    self._failing.warn(reason=str(exc).strip())
            except Exception:
                self._in_touch_since = None
                log.exception("heartbeat_failed")
            else:
                self._last_beat = asked_at
                self._tables.are_there()
                self._failing.is_over()
                if self._in_touch_since is None:
                    self._in_touch_since = asked_at
            self._stopping.wait(self._interval)

    def _watch(self) -> None:
        patience = self._timeout * _FENCE_AT
        fenced = False
        while not self._stopping.wait(patience / _LOOKS):
            silent = time.monotonic() - self._last_beat
            if silent > patience and not fenced:
                log.error("worker_fenced", silent_seconds=round(silent, 1))
                fenced = True
                self._fence()
            elif silent <= patience and fenced:
                log.warning("worker_unfenced")
                fenced = False
                self._unfence()
