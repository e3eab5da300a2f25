"""Celery's pool of threads, with threads of its own.

They are daemon threads: a job that takes no interrupt must not keep the application from ending. Each has the
worker's app as its current one: the application may have another Celery app, which would be asked for the tasks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

import structlog
from celery.concurrency.base import BasePool, apply_target
from celery.concurrency.thread import TaskPool

log = structlog.get_logger("cgk_tasks.worker")


class EmbeddedPool(TaskPool):
    """Started with `limit` threads. What it has not begun when it stops is executed all the same: the worker stops by
    then, so each message only says that its runs are to be dispatched again.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        BasePool.__init__(self, *args, **options)  # without Celery's executor, whose threads are waited for at exit
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def on_start(self) -> None:
        for number in range(self.limit):
            thread = threading.Thread(target=self._work, name=f"cgk-job-{number + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def on_stop(self) -> None:
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def on_apply(
        self,
        target: Any,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> Any:
        done: Future[None] = Future()
        call: Any = apply_target
        self._calls.put(partial(_complete, done, partial(call, target, args, kwargs, callback, accept_callback)))
        return done

    def _get_info(self) -> Any:
        base: Any = super(TaskPool, self)
        return {**base._get_info(), "threads": len(self._threads)}  # noqa: SLF001 - what Celery's pools extend

    def _work(self) -> None:
        app: Any = self.app
        app.set_current()
        while True:
            try:
                call = self._calls.get()
                if call is None:
                    return
                call()
            except BaseException:
                log.exception("message_failed")  # or an interrupt came when its job had just ended


def _complete(done: Future[None], call: Callable[[], object]) -> None:
    try:
        call()
    finally:
        done.set_result(None)
