"""The servers of the session: the application's own where settings name them, else private ones in `.cgk/`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cgk_tasks import embedded
from cgk_tasks.cli.dev.lines import Lines
from cgk_tasks.config import get_settings, use_settings


@contextmanager
def servers(lines: Lines) -> Iterator[embedded.Services | None]:
    """Have a database and a broker, named in the environment for the programs of the session.

    Gives the private services that this process owns, None if there are none. Raises EmbeddedError.
    """
    settings = get_settings()
    needs_database, needs_broker = settings.database_url is None, settings.broker_url is None
    if not (needs_database or needs_broker):
        _name(settings.database, settings.broker)
        lines.show("services", "those that are configured, or that another process runs for this folder")
        yield None
        return
    lines.show("services", f"starting in {embedded_folder()}")
    with embedded.start(postgres=needs_database, redis=needs_broker) as services:
        database_url = services.database_url if needs_database else settings.database
        broker_url = services.broker_url if needs_broker else settings.broker
        _name(database_url, broker_url)
        if needs_database and not settings.encryption_keys and services.encryption_key:
            os.environ["CGK_ENCRYPTION_KEYS"] = services.encryption_key
            use_settings(None)
        started = [title for title, wanted in (("PostgreSQL", needs_database), ("Redis", needs_broker)) if wanted]
        lines.show("services", f"{' and '.join(started)} ready, data in {services.folder}")
        if len(started) == 1:
            # A second terminal finds private services only where both are.
            missing = "CGK_DATABASE_URL" if needs_database else "CGK_BROKER_URL"
            lines.show("services", f"in a second terminal: export {missing}='{os.environ[missing]}'")
        yield services
    lines.show("services", "stopped")


def embedded_folder() -> str:
    from cgk_tasks.embedded.folder import DEFAULT

    return f"{DEFAULT}/"


def _name(database_url: str, broker_url: str) -> None:
    os.environ["CGK_DATABASE_URL"] = database_url
    os.environ["CGK_BROKER_URL"] = broker_url
    use_settings(None)
