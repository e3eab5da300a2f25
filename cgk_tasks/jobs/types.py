"""The forms of a job's function and of middleware."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext  # senders name a handler's type, and need no context

Handler = Callable[["JobContext[Any]"], Any]
CallNext = Callable[[], Any]
Middleware = Callable[["JobContext[Any]", CallNext], Any]
