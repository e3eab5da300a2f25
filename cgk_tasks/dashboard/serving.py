"""Starting the dashboard and Flower: its options, our defaults for some of them, and the server until it is stopped."""

from __future__ import annotations

import atexit
import logging
import secrets
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
import structlog
from flower import command, urls
from tornado.options import options

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.access.authentication import Authentication
from cgk_tasks.dashboard.access.client_address import TrustedProxies
from cgk_tasks.dashboard.access.deprecated_settings import warn_about_deprecated_settings
from cgk_tasks.dashboard.access.users import save_user
from cgk_tasks.dashboard.application import Dashboard
from cgk_tasks.dashboard.flower_application import PATH, FlowerApplication
from cgk_tasks.dashboard.flower_tasks import COLUMNS, format_task
from cgk_tasks.dashboard.http_server import Router, listen
from cgk_tasks.monitoring.logging import configure_logging
from cgk_tasks.sql.postgres import explain

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger("cgk_tasks.dashboard")

_TASKS_IN_MEMORY = 10_000
"""Flower keeps the tasks that it has heard of last, with some kilobytes each: 100,000 of them if it is not told. Ours
are on record.
"""


def serve(app: Celery[Any], arguments: Sequence[str] = (), *, quiet: bool = False) -> None:
    """Serve the dashboard, with Flower beside it, until SIGINT or SIGTERM. `arguments` are Flower's (`--port=5555`).

    Unlike Flower's own command it listens on 127.0.0.1 unless told otherwise. Raises ConfigurationError.
    """
    _set_defaults()
    command.apply_env_options()
    command.apply_options(sys.argv[0], list(arguments))
    settings = get_settings()
    authentication = Authentication.choose(settings, options)
    proxies = TrustedProxies(settings.dashboard_trusted_proxies)
    if authentication.method in {"users", "open"}:
        # Flower closes its API, and takes requests without a CSRF token, where it knows of no login. Ours comes before
        # it.
        options.auth = "cgk_tasks"
    prefix = _prefix(options.url_prefix)
    options.url_prefix = f"{prefix}{PATH}".lstrip("/")
    command.extract_settings()
    command.setup_logging()
    _configure_logging()
    warn_about_deprecated_settings(settings)
    if options.xheaders and not settings.dashboard_trusted_proxies:
        log.warning("xheaders_ignored", hint="Name your proxies: CGK_DASHBOARD_TRUSTED_PROXIES=10.0.0.0/8")
    shared = {
        "authentication": authentication, "login_url": f"{prefix}/login", "xsrf_cookies": True,
        "xsrf_cookie_kwargs": {"samesite": "Lax"},
    }  # fmt: skip
    flower = FlowerApplication(prefix, capp=app, options=options, **{**urls.settings, **shared})
    ours = {name: urls.settings[name] for name in ("cookie_secret", "debug", "oauth") if name in urls.settings}
    dashboard = Dashboard(options, prefix=prefix, **ours, **shared)
    port = listen(Router(dashboard, flower, prefix, proxies), options, flower.ssl_options)
    _create_first_user(authentication)

    atexit.register(flower.stop)
    signal.signal(signal.SIGTERM, command.sigterm_handler)
    if not quiet:
        _print_address(authentication, port, prefix)
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        flower.stop()


def _prefix(text: str | None) -> str:
    """What all addresses begin with, by `--url_prefix`: empty, or with a slash before it and none behind."""
    name = (text or "").strip("/")
    return f"/{name}" if name else ""


def _set_defaults() -> None:
    options.address = "127.0.0.1"
    options.tasks_columns = COLUMNS
    options.format_task = format_task
    options.max_tasks = _TASKS_IN_MEMORY


def _configure_logging() -> None:
    """One format, and no local variables below tracebacks: they may be payloads. The level is Flower's
    (`--logging`).
    """
    level = logging.getLogger().level
    configure_logging()
    logging.getLogger().setLevel(level)


def _create_first_user(authentication: Authentication) -> None:
    """Without any user, create one and print its password once, to a terminal only: never into a log."""
    try:
        if authentication.method != "users" or authentication.has_users():
            return
        if not sys.stderr.isatty():
            log.warning("dashboard_has_no_users", hint="cgk-tasks dashboard user add NAME --role admin")
            return
        password = secrets.token_urlsafe(15)
        save_user("admin", "admin", password)
    except psycopg.Error as exc:
        log.warning("dashboard_users_not_read", reason=str(explain(exc)))
        return
    sys.stderr.write(
        f"user: admin\npassword: {password}\n"
        "It is not shown again. A new one: cgk-tasks dashboard user set-password admin\n"
    )


def _print_address(authentication: Authentication, port: int | None, prefix: str) -> None:
    scheme = "https" if options.certfile else "http"
    site = options.unix_socket or f"{scheme}://{options.address}:{port}"
    where = options.unix_socket or f"{site}{prefix}/overview"
    how = {
        "users": "with login", "oauth": "with Flower's OAuth login", "basic": "with Flower's basic auth",
        "open": "open to everybody on this machine",
    }  # fmt: skip
    sys.stderr.write(f"dashboard: {where} ({how[authentication.method]}), until Ctrl-C\n")
    sys.stderr.write(f"flower: {site}{':' if options.unix_socket else ''}{prefix}{PATH}/\n")
    sys.stderr.flush()
