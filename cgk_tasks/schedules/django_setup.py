"""Starting Django where django-celery-beat needs it: in beat, `migrate` and `admin`, never on `import cgk_tasks`."""

from __future__ import annotations

import os

import django
from django.apps import apps
from django.conf import settings

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.schedules.django_schema import SCHEMA, require_own_schema
from cgk_tasks.sql.postgres import autocommit, fetch, transaction

_MIGRATION_LOCK = 4_216_201_003


def set_up_django() -> None:
    """Load Django with the application's own settings (DJANGO_SETTINGS_MODULE), or with ours; safe to repeat.

    Raises ConfigurationError where the application's Django project has no django_celery_beat.
    """
    if not settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE"):
        from cgk_tasks.schedules import django_settings

        # Not by DJANGO_SETTINGS_MODULE: workers that inherit it would load Django too.
        settings.configure(**{name: value for name, value in vars(django_settings).items() if name.isupper()})
    if not apps.ready:
        django.setup()
    if not apps.is_installed("django_celery_beat"):
        raise ConfigurationError(
            f"The Django project {os.environ.get('DJANGO_SETTINGS_MODULE')} has no django_celery_beat.",
            hint='Add "django_celery_beat" to its INSTALLED_APPS and run its migrations.',
        )


def uses_own_settings() -> bool:
    """Whether Django runs with the settings of cgk_tasks, not with those of an application."""
    return not os.environ.get("DJANGO_SETTINGS_MODULE")


def migrate_django() -> None:
    """Bring the tables of django-celery-beat up to date; safe to repeat, and for several processes at once.

    In an application's own Django project nothing is done: `manage.py migrate` does it.
    """
    set_up_django()
    if not uses_own_settings():
        return
    from django.core.management import call_command
    from django.db import connection as django_connection

    require_own_schema()
    with transaction() as lock, autocommit() as connection:
        # Of a transaction: it cannot outlive this one, wherever it breaks off.
        fetch(lock, "SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _MIGRATION_LOCK})
        lock.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        try:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            call_command("migrate", verbosity=0, interactive=False)
        finally:
            django_connection.close()
