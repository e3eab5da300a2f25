"""Starting the dashboard: Flower's options, our defaults for some of them, and the server until it is stopped."""

from __future__ import annotations

import atexit
import logging
import secrets
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import structlog
from flower import command, urls
from tornado.options import options

from cgk_tasks.config import get_settings
from cgk_tasks.monitoring.dashboard.access.entrance import Entrance
from cgk_tasks.monitoring.dashboard.application import Dashboard
from cgk_tasks.monitoring.dashboard.flower_tasks import COLUMNS, format_task
from cgk_tasks.monitoring.logging import configure_logging

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger("cgk_tasks.dashboard")


def serve(app: Celery[Any], arguments: Sequence[str] = (), *, quiet: bool = False) -> None:
    """Serve Flower with our pages until SIGINT or SIGTERM. `arguments` are Flower's (`--port=5555`).

    Unlike Flower's own command it listens on 127.0.0.1 unless told otherwise. Raises ConfigurationError.
    """
    _set_defaults()
    command.apply_env_options()
    command.apply_options(sys.argv[0], list(arguments))
    entrance = Entrance.choose(get_settings(), options)
    if entrance.way != "flower":
        # Flower closes its API, and takes requests without a CSRF token, where it knows of no login. The guard is one.
        options.auth = "cgk_tasks"
    command.extract_settings()
    command.setup_logging()
    _log_as_workers_do()
    dashboard = Dashboard(entrance, capp=app, options=options, **urls.settings)
    _offer_first_user(entrance)

    atexit.register(dashboard.stop)
    signal.signal(signal.SIGTERM, command.sigterm_handler)
    port = dashboard.start_http_server()
    if not quiet:
        _tell(entrance, port)
    try:
        dashboard.start()
    except (KeyboardInterrupt, SystemExit):
        dashboard.stop()


def _set_defaults() -> None:
    options.address = "127.0.0.1"
    options.tasks_columns = COLUMNS
    options.format_task = format_task


def _log_as_workers_do() -> None:
    """One format, and no local variables below tracebacks: they may be payloads. The level is Flower's (`--logging`)."""
    level = logging.getLogger().level
    configure_logging()
    logging.getLogger().setLevel(level)


def _offer_first_user(entrance: Entrance) -> None:
    """Where nobody can log in yet, the person at the terminal gets a password, once. It is never written into a log."""
    if entrance.way != "users" or entrance.users.users():
        return
    if not sys.stderr.isatty():
        log.warning("dashboard_has_no_users", hint="cgk-tasks dashboard user add NAME --role admin")
        return
    password = secrets.token_urlsafe(15)
    entrance.users.add("admin", "admin", password)
    sys.stderr.write(
        f"user: admin\npassword: {password}\nIt is not shown again. A new one: cgk-tasks dashboard user add admin --role admin\n"
    )


def _tell(entrance: Entrance, port: int | None) -> None:
    scheme = "https" if options.certfile else "http"
    prefix = f"/{options.url_prefix.strip('/')}" if options.url_prefix else ""
    where = options.unix_socket or f"{scheme}://{options.address}:{port}{prefix}/runs"
    how = {"users": "with login", "flower": "with Flower's login", "open": "open to everybody on this machine"}
    sys.stderr.write(f"dashboard: {where} ({how[entrance.way]}), until Ctrl-C\n")
    sys.stderr.flush()
