"""`celery.ping`: what the pytest fixtures of Celery (`celery_worker`, `celery_session_worker`) ask a worker's app for.

They send it once the worker has started, and they name no tenant. It is no run, so it is answered where it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cgk_tasks.celery_tasks.task import TenantTask

if TYPE_CHECKING:
    from celery.result import AsyncResult


class Ping(TenantTask):
    name = "celery.ping"
    is_adapted: ClassVar[bool] = False

    def run(self) -> str:
        return "pong"

    def apply_async(  # type: ignore[override]  # the rest of Celery's options by keyword
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """Answered here and now."""
        result: AsyncResult[Any] = self.apply(args, kwargs, **options)
        return result
