"""The options of a task that no send would take are refused where the task is made, and not at its first send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kombu import Queue

from cgk_tasks.celery_tasks.limits import check_limits
from cgk_tasks.celery_tasks.priorities import check_priority
from cgk_tasks.celery_tasks.times import expiry_of
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.new_run import queue_name

_READ_AS_JSON: Final = frozenset({None, "json", "application/json"})


def check_serializer(value: Any) -> None:
    """Raises InvalidOptionError for a format that runs are not kept in, and workers do not read."""
    if value not in _READ_AS_JSON:
        raise InvalidOptionError(
            "serializer",
            f"is {value!r}, and arguments are JSON.",
            hint="Leave it out: dates, UUIDs, decimals and bytes come back as they were sent. For types of your "
            "own use kombu.utils.json.register_type, or send the id of what is stored.",
        )


def _check_queue(value: Any) -> None:
    if not isinstance(value, Queue):
        queue_name(value)


_OF_ALL: Final[tuple[tuple[str, Callable[[Any], object]], ...]] = (
    ("serializer", check_serializer),
    ("time_limit", lambda value: check_limits({"time_limit": value})),
    ("soft_time_limit", lambda value: check_limits({"soft_time_limit": value})),
    ("expires", expiry_of),
)
_OF_RUNS: Final[tuple[tuple[str, Callable[[Any], object]], ...]] = (
    ("priority", check_priority),
    ("queue", _check_queue),
)

OPTIONS: Final = tuple(name for name, _check in _OF_ALL + _OF_RUNS)
"""Those that are looked at."""


def check_task_options(task: str, options: Mapping[str, Any], *, durable: bool) -> None:
    """Raises InvalidOptionError, which names the option and the task.

    An exchange and a routing key mean what `task_queues` says, which may be set later: they are looked at in sends.
    """
    for name, check in _OF_ALL + _OF_RUNS if durable else _OF_ALL:
        if (value := options.get(name)) is None:
            continue
        try:
            check(value)
        except InvalidOptionError as exc:
            raise InvalidOptionError(f"{name} of the task {task}", exc.problem, hint=exc.hint) from None
