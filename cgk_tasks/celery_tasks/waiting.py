"""How `AsyncResult.get()` and its like wait for runs: they look again and again, at first quickly, and at once when a
worker calls.

`on_message` is called with each state that a task comes to, and once more with its end, as Celery's Redis backend does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import TimeoutError as CeleryTimeoutError

from cgk_tasks.broker import answers
from cgk_tasks.broker.answers import Answer
from cgk_tasks.runs import store
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.sql.postgres import autocommit

_FIRST_NAP_SECONDS: Final = 0.005
_FIRST_NAP_BESIDE_SECONDS: Final = 0.02
"""While a worker is to call."""
_NAPS_GROW_BY: Final = 1.5

Callback = Callable[..., object] | None


class Waiting(BaseBackend):
    """The half of the result backend that waits."""

    supports_native_join = True

    def wait_for_pending(  # type: ignore[override]  # Celery calls it by keyword
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        on_message: Callback = None,
        on_interval: Callback = None,
        callback: Callback = None,
        propagate: bool = True,
        **_options: Any,
    ) -> Any:
        """What `get()` gives. A parent that failed (the header of a chord) is reported before the result itself."""
        self._ensure_not_eager()  # type: ignore[attr-defined]  # celery-types does not know it
        seen: dict[str, Any] = {}
        with answers.of_run(run_id_of(result.id)) as answer:
            for _ in _naps(timeout, interval, answer):
                told = self.end_told(result.id) if answer is not None and answer.has_come else None
                meta = told or self.get_task_meta(result.id)
                _tell(on_message, seen, meta)
                is_ready = meta["status"] in states.READY_STATES
                if on_interval is not None and (not is_ready or meta["status"] in states.PROPAGATE_STATES):
                    on_interval()
                if "name" in meta and (answer is not None or not is_ready):
                    answers.waits_for(meta["name"])
                if is_ready:
                    result._maybe_set_cache(meta)  # noqa: SLF001 - Celery's backends do so
                    return result.maybe_throw(propagate=propagate, callback=callback)
        raise CeleryTimeoutError("The operation timed out.")

    def end_told(self, task_id: str) -> dict[str, Any] | None:
        """The meta of a task whose worker has just called; None if it has not ended, or there is more to know of it."""
        raise NotImplementedError

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float = 0.5,
        on_message: Callback = None,
        on_interval: Callback = None,
        **_options: Any,
    ) -> Iterator[tuple[str, Any]]:
        """The tasks with their ends, as they come. Raises Celery's TimeoutError."""
        waiting = dict.fromkeys(task_ids)
        for _ in _naps(timeout, interval):
            for task_id in self._closed(waiting):
                meta = self.get_task_meta(task_id)
                if meta["status"] in states.READY_STATES:
                    _tell(on_message, {}, meta)
                    waiting.pop(task_id)
                    yield task_id, meta
            if not waiting:
                return
            if on_interval is not None:
                on_interval()
        raise CeleryTimeoutError(f"Operation timed out ({timeout})")

    def _closed(self, task_ids: Iterable[str]) -> list[str]:
        """Those whose runs are history, found with one statement."""
        by_run = {run_id_of(task_id): task_id for task_id in task_ids}
        with autocommit() as connection:
            closed = store.already_closed(connection, list(by_run))
        return [task_id for run_id, task_id in by_run.items() if run_id in closed]


def _tell(on_message: Callback, seen: dict[str, Any], meta: Any) -> None:
    """Tell of a state that was not seen before."""
    said = (meta["status"], meta["result"])
    if on_message is not None and meta["status"] != states.PENDING and seen.get("said") != said:
        seen["said"] = said
        on_message(meta)


def _naps(timeout: float | None, interval: float | None, answer: Answer | None = None) -> Iterator[None]:
    """Once at first, then again after each nap, until the time is over; the last look is at its very end.

    answer: ends a nap when it comes. Where there is one, a nap is the first thing: it has come already, or the run is
    on its way.
    """
    longest = 0.5 if interval is None else interval
    end = None if timeout is None else time.monotonic() + timeout
    nap = _FIRST_NAP_SECONDS if answer is None else _FIRST_NAP_BESIDE_SECONDS
    rest = time.sleep if answer is None else answer.wait
    is_expected = answer is not None and (end is None or time.monotonic() < end)
    while True:
        if not is_expected:
            yield
        is_expected = False
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return
        rest(min(nap, longest) if left is None else min(nap, longest, left))
        nap *= _NAPS_GROW_BY
