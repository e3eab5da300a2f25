"""Whether the gateway lives, and whether it can serve. Neither takes a key."""

from __future__ import annotations

import threading
import time
from typing import Final

import psycopg
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from cgk_tasks.errors import CgkTasksError
from cgk_tasks.gateway.json_text import to_text
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, explain, fetch, statements

SQL = statements("gateway")
log = structlog.get_logger("cgk_tasks.gateway")

_TRUST_SECONDS: Final = 1.0


class Readiness:
    """What PostgreSQL said last. It is asked once a second at most, by one of those who ask here; others do not wait
    for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = -_TRUST_SECONDS
        self._is_ready = False

    def look(self) -> bool:
        if time.monotonic() - self._asked_at >= _TRUST_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._is_ready = _asked()
                self._asked_at = time.monotonic()
            finally:
                self._lock.release()
        return self._is_ready


def _asked() -> bool:
    try:
        with autocommit() as connection:
            fetch(connection, SQL["is_ready"])
    except psycopg.Error as exc:
        log.warning("gateway_not_ready", reason=str(explain(exc)))
        return False
    except CgkTasksError as exc:
        log.warning("gateway_not_ready", reason=str(exc))
        return False
    return True


READINESS = Part(Readiness)


async def live(_request: Request) -> Response:
    """GET /v1/health/live: this process answers."""
    return _said("live", 200)


async def ready(_request: Request) -> Response:
    """GET /v1/health/ready: it reaches PostgreSQL, and its tables are there. A broker that is away fails no send."""
    is_ready = await run_in_threadpool(READINESS.current().look)
    return _said("ready", 200) if is_ready else _said("not ready", 503)


def _said(status: str, code: int) -> Response:
    return Response(to_text({"status": status}), code, {"Cache-Control": "no-store"}, "application/json")
