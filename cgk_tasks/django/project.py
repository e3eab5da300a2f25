"""Whether the Django project of this process has the backend. Asked by workers, of whom few have a Django project."""

from __future__ import annotations

import os


def register_tasks_job() -> None:
    """Register the job of Django's tasks, if one of the project's TASKS has a backend of this package."""
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        return
    from django.conf import settings

    backends = (getattr(settings, "TASKS", None) or {}).values()
    if any(str(one.get("BACKEND")).startswith("cgk_tasks.django.") for one in backends):
        import cgk_tasks.django.job  # noqa: F401 - the import registers it
