"""Django of this process at the database of the settings: it is set up once, and stays where it was then."""

from django.conf import settings
from django.db import connections

from cgk_tasks.schedules.django_database import database


def lead_django_here():
    """To be called when the database is another one."""
    if settings.configured:
        connections.close_all()
        connections.settings["default"].update(database())
