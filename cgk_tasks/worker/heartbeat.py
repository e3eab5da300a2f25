"""A worker's heartbeat on record, and the fence that stops the worker's runs when heartbeats do not get through.

Others take over the runs of a worker that is silent for `worker_timeout_seconds`. So that no run executes twice at
once, a worker that cannot make itself heard stops its own runs before that, as its lease says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.sql.clock import steady
from cgk_tasks.worker.lease import Lease
from cgk_tasks.worker.missing_tables import MissingTables
from cgk_tasks.worker.sleeping import sleep_until

log = structlog.get_logger("cgk_tasks.heartbeat")

_OUT_OF_TOUCH_AT = 0.4
"""Part of the timeout after which the worker takes no more messages; at least two heartbeats."""
_TRY_AGAIN_SECONDS = 1.0
_MOMENT_SECONDS = 0.01
_GRACE = 1 / 3
"""Part of the timeout in which every worker that lives has been heard after an outage; at least two heartbeats."""


class Heartbeat:
    """Two threads: one waits for PostgreSQL (which may neither answer nor refuse), the other one waits for nobody."""

    def __init__(
        self,
        beat: Callable[[], None],
        fence: Callable[[], None],
        lease: Lease,
        tables: MissingTables,
        on_touch_changed: Callable[[], object],
    ) -> None:
        """on_touch_changed: called when `is_out_of_touch` has changed."""
        settings = get_settings()
        self._on_touch_changed = on_touch_changed
        self._was_out_of_touch = False
        self._tables = tables
        self._failing = RecurringWarning(log, "heartbeat_failed", "heartbeat_back")
        self._beat, self._fence, self._lease = beat, fence, lease
        self._interval = settings.heartbeat_seconds
        self._timeout = settings.worker_timeout_seconds
        self._grace = max(self._timeout * _GRACE, 2 * self._interval)
        self._in_touch_since: float | None = None
        self._fenced = False
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_beating, name="cgk-heartbeat", daemon=True),
            threading.Thread(target=self._watch, name="cgk-fence", daemon=True),
        ]

    def start(self) -> None:
        self._lease.begin(self._timeout)
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        self._stopping.set()
        self._threads[0].join(timeout)  # the other one may sleep until the lease is over

    @property
    def is_out_of_touch(self) -> bool:
        """Whether heartbeats have not got through for so long that this worker should leave messages to others."""
        return self._fenced or self._lease.silent_seconds > self._patience

    @property
    def _patience(self) -> float:
        return min(max(self._timeout * _OUT_OF_TOUCH_AT, 2 * self._interval), self._lease.limit)

    @property
    def may_judge(self) -> bool:
        """Whether silence of others means anything: after an outage all are silent until they had time to beat.

        Their leases are over by then, and their children have ended themselves; this is for jobs that cannot be ended.
        """
        since = self._in_touch_since
        return since is not None and not self.is_out_of_touch and steady() - since > self._grace

    def _keep_beating(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            self._fence_if_over()  # this process may have been stopped until now
            asked_at = steady()  # not later than the time that the record notes
            pause = min(self._interval, _TRY_AGAIN_SECONDS)
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
                self._got_through(asked_at)
                pause = self._interval

    def _got_through(self, asked_at: float) -> None:
        self._tables.are_there()
        self._failing.is_over()
        if self._in_touch_since is None or self.is_out_of_touch:
            self._in_touch_since = asked_at
        with self._lock:
            self._lease.renew(asked_at)
            if self._fenced and not self._lease.is_over:
                self._fenced = False
                log.warning("worker_unfenced")
        self._tell_if_touch_changed()

    def _watch(self) -> None:
        """Sleeps until the worker would be out of touch, or its lease over, if no heartbeat came meanwhile."""
        while not self._stopping.is_set():
            silent = self._lease.silent_seconds
            moments = [at for at in (self._patience, self._lease.limit) if at >= silent]
            sleep_until(steady() + (min(moments) - silent + _MOMENT_SECONDS if moments else self._lease.look_seconds))
            if not self._stopping.is_set():
                self._fence_if_over()
                self._tell_if_touch_changed()

    def _tell_if_touch_changed(self) -> None:
        is_out_of_touch = self.is_out_of_touch
        if is_out_of_touch != self._was_out_of_touch:
            self._was_out_of_touch = is_out_of_touch
            self._on_touch_changed()

    def _fence_if_over(self) -> None:
        with self._lock:
            if self._lease.is_over and not self._fenced:
                self._fenced = True
                log.error("worker_fenced", silent_seconds=round(self._lease.silent_seconds, 1))
                self._fence()
