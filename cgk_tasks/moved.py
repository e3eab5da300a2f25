"""Old places of modules that applications import: they still work,
with a DeprecationWarning that names the new place.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

_CATALOG = (
    "ab_testing", "analytics", "attribution", "brand_context", "commerce", "creators", "google_feed", "media", "names",
    "notifications", "payloads", "payouts", "recovery", "reviews", "subscriptions", "system", "webhooks", "workflows",
)  # fmt: skip

MOVED: Final = {
    "cgk_tasks.classification": "cgk_tasks.jobs.classification",
    "cgk_tasks.encryption_keys": "cgk_tasks.config.encryption_keys",
    "cgk_tasks.postgres": "cgk_tasks.sql.postgres",
    "cgk_tasks.runs.dispatcher": "cgk_tasks.worker.dispatcher",
    "cgk_tasks.runs.groups": "cgk_tasks.celery_tasks.groups",
    "cgk_tasks.runs.history": "cgk_tasks.runs.partitions",
    "cgk_tasks.runs.packets": "cgk_tasks.broker.packets",
    "cgk_tasks.runs.publisher": "cgk_tasks.broker.publisher",
    "cgk_tasks.runs.queues": "cgk_tasks.flow.queues",
    "cgk_tasks.runs.replay": "cgk_tasks.flow.replay",
    "cgk_tasks.runs.result_backend": "cgk_tasks.celery_tasks.result_backend",
    "cgk_tasks.runs.sender": "cgk_tasks.flow.accept",
    "cgk_tasks.runs.transport": "cgk_tasks.broker.transport",
    "cgk_tasks.runs.why": "cgk_tasks.monitoring.why",
    "cgk_tasks.schedules.table": "cgk_tasks.catalog.schedules",
    "cgk_tasks.sqlalchemy_engine": "cgk_tasks.sql.sqlalchemy_engine",
    "cgk_tasks.tasks.base": "cgk_tasks.celery_tasks.task",
    "cgk_tasks.tasks.canvas": "cgk_tasks.celery_tasks.canvas",
    "cgk_tasks.tasks.catalog": "cgk_tasks.tasks",
    "cgk_tasks.tasks.context": "cgk_tasks.jobs.context",
    "cgk_tasks.tasks.idempotency": "cgk_tasks.jobs.idempotency",
    "cgk_tasks.tasks.jobs": "cgk_tasks.jobs.registry",
    "cgk_tasks.tasks.middleware": "cgk_tasks.jobs.middleware",
    "cgk_tasks.tasks.rate_limit": "cgk_tasks.jobs.rate_limit",
    "cgk_tasks.tasks.retry": "cgk_tasks.jobs.retry",
    "cgk_tasks.tasks.timeouts": "cgk_tasks.jobs.time_limit",
    **{f"cgk_tasks.events.{name}": f"cgk_tasks.catalog.{name}" for name in _CATALOG},
}


class _Forward(Loader):
    """Gives the module at the new place under the old name as well: the same object, so classes stay the same."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {new}. Import it from there.", DeprecationWarning, stacklevel=2)
        module = import_module(new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed at its own place, and keeps the name that it has there."""
        module.__spec__ = self._spec


class _Finder(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the protocol's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Forward()) if fullname in MOVED else None


def forward_old_imports() -> None:
    """Called once, when cgk_tasks is imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
