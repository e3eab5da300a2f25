"""The Tasks framework of the project: `django.tasks`, which came with Django 6, or else the package django-tasks."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cgk_tasks.errors import ConfigurationError


def _home() -> str:
    for name in ("django.tasks", "django_tasks"):
        try:
            if find_spec(name) is not None:
                return name
        except ModuleNotFoundError:
            continue  # there is no Django at all
    raise ConfigurationError(
        "cgk_tasks.django needs the Tasks framework, which Django has from version 6.0 on.",
        hint="With an earlier Django: pip install django-tasks, and add django_tasks to INSTALLED_APPS.",
    )


HOME = _home()
"""The name of the module."""

signals: Any = import_module(f"{HOME}.signals")

_base: Any = import_module(f"{HOME}.base")
BaseTaskBackend: Any = import_module(f"{HOME}.backends.base").BaseTaskBackend
Task, TaskContext, TaskError = _base.Task, _base.TaskContext, _base.TaskError
TaskResult, TaskResultStatus = _base.TaskResult, _base.TaskResultStatus

_exceptions: Any = import_module(f"{HOME}.exceptions")
TaskException, TaskResultDoesNotExist = _exceptions.TaskException, _exceptions.TaskResultDoesNotExist
