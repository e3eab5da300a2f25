"""The forms of a job's function and of middleware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cgk_tasks.jobs.context import JobContext

Handler = Callable[[JobContext[Any]], Any]
CallNext = Callable[[], Any]
Middleware = Callable[[JobContext[Any], CallNext], Any]
