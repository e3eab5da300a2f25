"""Running the jobs of a queue inside the application: handlers by name, in the embedded worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import structlog
from celery import signals

from cgk_tasks.errors import ConfigurationError, InvalidOptionError
from cgk_tasks.in_process.worker import EmbeddedWorker
from cgk_tasks.job_queues.named_jobs import NamedJob, event_of
from cgk_tasks.job_queues.queue import JobQueue, QueuedJob
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import define_job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.models import State

log = structlog.get_logger("cgk_tasks.jobs")

Handler = Callable[[JobContext[NamedJob]], Any]
OnComplete = Callable[[QueuedJob, Any], object]
OnError = Callable[[QueuedJob, BaseException], object]

_ENDS: Final[Mapping[State, Any]] = {
    "completed": signals.task_success, "failed": signals.task_failure, "retrying": signals.task_retry,
}  # fmt: skip
"""What Celery says of the ends of attempts."""


class JobProcessor:
    """What `process_jobs` makes. `with` starts it and stops it; so do `start()` and `stop()`."""

    def __init__(
        self, queue: JobQueue, max_concurrency: int, on_error: OnError | None, on_complete: OnComplete | None
    ) -> None:
        self._queue = queue
        self._on_error, self._on_complete = on_error, on_complete
        self._events: set[str] = set()
        self._worker = EmbeddedWorker(max_concurrency, [queue.name])

    @property
    def is_running(self) -> bool:
        """Whether it was started in this process, and has not ended."""
        return self._worker.is_running

    def register_handler(self, name: str, handler: Handler) -> None:
        """Let `handler` run the jobs of this name. It takes a JobContext: `ctx.payload.data` is what was enqueued.

        Raises InvalidOptionError for what is no name, and ConfigurationError for a name that has another handler, and
        once the processor runs.
        """
        self.register_job(name, handler)

    def register_job(
        self, name: str, handler: Handler, *, retry: RetryConfig | None = None, timeout: float | timedelta | None = None
    ) -> None:
        """`register_handler`, with the job's own retries and its time limit (seconds or timedelta)."""
        if self.is_running:
            raise ConfigurationError(
                f"The handler of {name!r} came after the start of its processor.",
                hint="Register all handlers, then call start().",
            )
        event = event_of(name)
        define_job(name, event=event, retry=retry, timeout=timeout)(handler)
        self._events.add(event.event_name)

    def start(self) -> Self:
        """Begin to take jobs, in threads of this process. Raises what `EmbeddedWorker.start` raises, and
        ConfigurationError without a handler.
        """
        if not self._events:
            raise ConfigurationError(
                f"The queue {self._queue.name!r} is to be processed without any handler.",
                hint='Give them: process_jobs(queue, {"send-receipt": send_receipt}).',
            )
        self._worker.start()
        if self._on_complete is not None or self._on_error is not None:  # else no attempt pays for the signals
            for state, one in _ENDS.items():
                one.connect(partial(self._ended, state), weak=False, dispatch_uid=f"cgk-queue-{id(self)}")
        return self

    def stop(self, timeout: float | None = None) -> bool:
        """Take no more jobs, and wait for those that run; see `EmbeddedWorker.stop`."""
        try:
            return self._worker.stop(timeout)
        finally:
            for one in _ENDS.values():
                one.disconnect(dispatch_uid=f"cgk-queue-{id(self)}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ended(self, state: State, sender: Any = None, **told: Any) -> None:
        """An attempt has ended. Celery logs what is raised here. The record may say so a moment later."""
        is_wanted = self._on_complete if state == "completed" else self._on_error
        if is_wanted is None or sender.name not in self._events:
            return
        job = replace(self._queue.get_job(sender.request.id), status=state)
        if state == "completed" and self._on_complete is not None:
            self._on_complete(replace(job, result=told["result"]), told["result"])
        elif self._on_error is not None:
            self._on_error(job, told["exception"] if state == "failed" else told["reason"])


def process_jobs(
    queue: JobQueue,
    handlers: Mapping[str, Handler] | None = None,
    *,
    max_concurrency: int = 5,
    poll_interval: float | None = None,
    on_error: OnError | None = None,
    on_complete: OnComplete | None = None,
) -> JobProcessor:
    """Run the jobs of a queue in this process, each by the handler of its name. Call `start()`, or use `with`.

        with process_jobs(emails, {"send-receipt": send_receipt}, max_concurrency=2):
            serve()

    It is `embedded_worker` with this queue. A handler returns its result, or a JobResult, or raises; it may be `async
    def`. Handlers are jobs, whose ids are their names, and any worker that imports this executes them. max_concurrency:
    how many run at once. poll_interval: accepted from callers of old, and without effect: the broker wakes the worker.
    on_complete: called with the job and its result. on_error: called with the job and the error after each attempt that
    failed. Both are called in the context of the job's tenant, at about the time when the end is put on record, and not
    where the process dies then; what they raise is logged. Raises InvalidOptionError.
    """
    if poll_interval is not None and not poll_interval > 0:
        raise InvalidOptionError("poll_interval", f"must be more than 0 seconds, not {poll_interval!r}")
    made = JobProcessor(queue, max_concurrency, on_error, on_complete)
    for name, handler in (handlers or {}).items():
        made.register_handler(name, handler)
    return made
