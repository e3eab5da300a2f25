"""The command `celery worker`: what it makes before it forks its children is not looked at for garbage."""

from __future__ import annotations

from typing import Any

from celery.apps.worker import Worker

from cgk_tasks.collector import collector_paused


class RunWorker(Worker):
    """`celery -A proj worker`. It imports the jobs when it is made, and at the end of that SupervisorStep freezes what
    there is.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        with collector_paused():
            super().__init__(*args, **options)
