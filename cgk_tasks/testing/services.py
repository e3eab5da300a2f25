"""Real servers for tests: private, empty, gone afterwards."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cgk_tasks import embedded
from cgk_tasks.broker.publisher import close_publishers
from cgk_tasks.client import reset_job_client
from cgk_tasks.config import use_settings
from cgk_tasks.migrations import migrate
from cgk_tasks.sql.postgres import close_pools
from cgk_tasks.tenancy.registry import forget_known


@contextmanager
def private_services() -> Iterator[embedded.Services]:
    """A fresh PostgreSQL and Redis with the tables of cgk_tasks, and the settings pointed at them.

    For this process and those that it starts, until the block ends; `send_job` sends to Celery meanwhile. Everything
    else that the environment sets stays. Needs the extra `embedded`. Raises EmbeddedError.
    """
    with embedded.temporary() as services:
        own = {
            "JOBS_PROVIDER": "celery",
            "CGK_DATABASE_URL": services.database_url,
            "CGK_BROKER_URL": services.broker_url,
            "CGK_ENCRYPTION_KEYS": os.environ.get("CGK_ENCRYPTION_KEYS") or services.encryption_key or "",
        }
        before = {name: os.environ.get(name) for name in own}
        try:
            os.environ.update(own)
            _start_afresh()
            migrate()
            yield services
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            _start_afresh()


def _start_afresh() -> None:
    """Forget everything that this process knows of other servers."""
    reset_job_client()
    close_publishers()
    close_pools()
    forget_known()
    use_settings(None)
    imported = sys.modules.get("cgk_tasks.celery_app")
    if imported is not None:
        imported.follow_settings(imported.app)
