"""The settings of the Django project whose tasks the tests enqueue; and those of its workers."""

from cgk_tasks.schedules.django_settings import *  # noqa: F403 - the tables are where the tests' others are

BACKEND = "cgk_tasks.django.TasksBackend"

TASKS = {
    "default": {"BACKEND": BACKEND, "QUEUES": ["default", "emails"], "OPTIONS": {"MAX_ATTEMPTS": 2}},
    "resolved": {"BACKEND": BACKEND, "OPTIONS": {"TENANT": "tests.django_backend.tasks.tenant_of"}},
    "elsewhere": {"BACKEND": BACKEND, "OPTIONS": {"DATABASE": "elsewhere"}},
}
