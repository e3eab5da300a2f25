"""The connection of Django, where it runs with the settings of cgk_tasks."""

from __future__ import annotations

from typing import Any, Final

from cgk_tasks.config import get_settings
from cgk_tasks.schedules.django_schema import SCHEMA
from cgk_tasks.sql.connecting import FORMATS, startup_options
from cgk_tasks.sql.urls import parameters

_PLACES: Final = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}


def database() -> dict[str, Any]:
    """The connection that CGK_DATABASE_URL names, as Django spells it."""
    options = parameters(get_settings().database)
    found = {name: str(options.pop(key, "")) for name, key in _PLACES.items()}
    # Only our own schema: an application's Django tables in `public` must not be taken for ours.
    given = f"{options.get('options', '')} -c search_path={SCHEMA}".strip()
    options["options"] = startup_options(FORMATS, given)
    return {
        "ENGINE": "django.db.backends.postgresql",
        **found,
        "NAME": found["NAME"] or "postgres",
        "OPTIONS": options,
    }
