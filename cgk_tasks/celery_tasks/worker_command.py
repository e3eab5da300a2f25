"""The command `celery worker`: what it makes before it forks its children is not looked at for garbage."""

from __future__ import annotations

import gc
from typing import Any

from celery.apps.worker import Worker

from cgk_tasks.collector import collector_paused


class RunWorker(Worker):
    """`celery -A proj worker`: a process of its own, which imports the jobs when this is made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        with collector_paused():
            super().__init__(*args, **options)
        # What is there now stays for good: the children share it with their parent instead of copying it piece by
        # piece. Of 90,000 objects 94 are garbage, and to look at all of them takes long.
        gc.freeze()
