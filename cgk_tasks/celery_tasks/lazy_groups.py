"""A group whose tasks a generator gives goes step by step, as in Celery: what it has given is sent before it is asked
for more, if it takes its time. A list, and what a quick generator gives, is accepted all or none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

from celery import group
from celery.canvas import _chord  # type: ignore[attr-defined]  # a private name
from celery.utils.functional import _regen  # type: ignore[attr-defined]  # what Celery makes of a generator

from cgk_tasks.celery_tasks import groups

_SLOW_SECONDS: Final = 0.05
_AT_ONCE: Final = 1_000

_apply_tasks: Any = vars(group)["_apply_tasks"]
_begun: ContextVar[float | None] = ContextVar("cgk_group_begun", default=None)
"""When the group, or the chord whose header it is, was to be sent: Celery asks for two tasks before it sends one."""


def _noting_when(apply_async: Callable[..., Any], *, anew: bool) -> Callable[..., Any]:
    @wraps(apply_async)
    def noting(self: Any, *args: Any, **options: Any) -> Any:
        if not anew and _begun.get() is not None:
            return apply_async(self, *args, **options)
        token = _begun.set(time.monotonic())
        try:
            return apply_async(self, *args, **options)
        finally:
            _begun.reset(token)

    return noting


@wraps(_apply_tasks)
def _apply_step_by_step(self: Any, tasks: Iterable[Any], *args: Any, **options: Any) -> Iterator[Any]:
    lazy = isinstance(self.tasks, _regen)
    return _apply_tasks(self, _steps(tasks) if lazy else tasks, *args, **options)  # type: ignore[no-any-return]


def _steps(tasks: Iterable[Any]) -> Iterator[Any]:
    """The tasks. Those before are sent while the next one is awaited, if the last one was slow or they are many."""
    begun, slow = _begun.get() or time.monotonic(), False
    for given, task in enumerate(tasks, 1):
        slow = slow or time.monotonic() - begun > _SLOW_SECONDS
        yield task
        if slow or given % _AT_ONCE == 0:
            groups.send_collected()
        begun = time.monotonic()


def install() -> None:
    """Celery has no other place to say it. Groups of other apps are what they were: they collect nothing."""
    group._apply_tasks = _apply_step_by_step  # type: ignore[attr-defined]  # noqa: SLF001
    group.apply_async = _noting_when(group.apply_async, anew=False)  # type: ignore[method-assign]
    _chord.apply_async = _noting_when(_chord.apply_async, anew=True)
