"""The command `celery beat`: it uses our scheduler too where the command line or the settings name Celery's."""

from __future__ import annotations

from typing import Any

from celery.apps.beat import Beat

from cgk_tasks.celery_tasks.app_settings import own_scheduler


class RunBeat(Beat):
    """`celery -A proj beat -S django` runs the scheduler that keeps a record of its ticks."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        named: Any = vars(self)["scheduler_cls"]
        self.scheduler_cls = own_scheduler(str(named))
