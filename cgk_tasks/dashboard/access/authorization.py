"""Every request is authorized before its handler runs, Flower's own handlers included: user, role, CSRF token,
audit.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from functools import partial
from inspect import isawaitable
from typing import Any, Final, cast
from urllib.parse import urlencode

import psycopg
import sqlalchemy as sa
import structlog
from flower.api import tasks
from flower.views import auth, monitor
from flower.views.tasks import TasksDataTable
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.access import login_redirect
from cgk_tasks.dashboard.access.authentication import Authentication, TooManyLoginsError
from cgk_tasks.dashboard.access.flower_actions import flower_action
from cgk_tasks.dashboard.display import namespace
from cgk_tasks.dashboard.roles import Role, User
from cgk_tasks.errors import ConfigurationError

log = structlog.get_logger("cgk_tasks.dashboard")

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# Images, scripts and styles from here alone, and nothing inline.
STRICT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# Flower's pages write styles into elements, its style sheet has images in it, and one page a script, which our
# templates give a nonce.
FLOWER_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; object-src 'none'"
)

PUBLIC: Final = (StaticFileHandler, monitor.Healthcheck, auth.LoginHandler)
"""Shown to everybody: files of the pages, whether the process lives, and the start of OAuth."""


class AuthorizedHandler(RequestHandler):
    """Mixed in before a handler: login, role, CSRF token, headers, and an entry in the audit."""

    policy: str = FLOWER_POLICY
    role_to_look: Role = "viewer"
    role_to_change: Role = "operator"
    records_itself: bool = False
    """Whether the handler writes its own lines into the audit."""

    _entry: audit.Entry | None = None
    _retry_after: float | None = None
    _asks_for_password = False

    @property
    def authentication(self) -> Authentication:
        authentication: Authentication = self.application.authentication  # type: ignore[attr-defined]
        return authentication

    @property
    def user(self) -> User:
        """The user who is logged in; never None after `prepare`."""
        return cast("User", self.current_user)

    def get_current_user(self) -> None:
        """Nobody, where Tornado asks before or without `prepare`, which sets the user."""

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        if self._retry_after is not None:
            self.set_header("Retry-After", str(math.ceil(self._retry_after)))
        if self._asks_for_password:
            self.set_header("WWW-Authenticate", 'Basic realm="cgk_tasks"')
        self.nonce = secrets.token_urlsafe(12)
        self.set_header("Content-Security-Policy", self.policy.replace("{nonce}", self.nonce))

    def get_template_namespace(self) -> dict[str, Any]:
        return super().get_template_namespace() | namespace(self) | {"nonce": self.nonce}

    def check_xsrf_cookie(self) -> None:
        """Browsers bring the token. A program with a password does not, and no browser is made to be that program."""
        headers = self.request.headers
        by_browser = headers.get("Sec-Fetch-Site") or headers.get("Origin") or headers.get("Cookie")
        if "Authorization" in headers and not by_browser:
            return
        RequestHandler.check_xsrf_cookie(self)

    def needed_role(self) -> Role:
        return self.role_to_look if self.request.method in SAFE_METHODS else self.role_to_change

    async def prepare(self) -> None:
        found = await self._authenticate()
        self.current_user = found
        if found is None:
            self._send_to_login()
            return
        needed = self.needed_role()
        if not found.may(needed):
            raise HTTPError(403, f"This needs the role {needed}. {found.name} is {found.role}.")
        if self.request.method not in SAFE_METHODS and not self.records_itself and needed != "viewer":
            await self._record(found)
        before: Any = super().prepare()
        if isawaitable(before):
            await before

    async def _authenticate(self) -> User | None:
        self.current_user = None
        try:
            return await self.authentication.user(self)
        except TooManyLoginsError as exc:
            self._retry_after = exc.wait_seconds
            raise
        except (psycopg.Error, sa.exc.SQLAlchemyError, ConfigurationError) as exc:
            # Nothing of the error itself is shown to somebody who may be anybody.
            log.warning("authentication_failed", error=type(exc).__name__, reason=str(exc))
            missing = isinstance(exc, psycopg.errors.UndefinedTable)
            reason = (
                "Its tables are missing: run cgk-tasks migrate." if missing else "The dashboard's log has the reason."
            )
            raise HTTPError(503, f"Nobody can be logged in just now. {reason}") from exc

    def _send_to_login(self) -> None:
        method = self.authentication.method
        wants_page = "text/html" in self.request.headers.get("Accept", "") and "HX-Request" not in self.request.headers
        if method == "open":
            raise HTTPError(403, "Log in first.")
        if self.request.method != "GET" or not wants_page or method == "basic":
            self._asks_for_password = method == "basic"
            raise HTTPError(401, "Log in first.")
        if method == "oauth":
            login_redirect.save_next_url(self)
        prefix = namespace(self)["url"]("")
        self.redirect(f"{prefix}/login?{urlencode({'next': self.request.uri})}")

    async def _record(self, user: User) -> None:
        """Flower's actions: on record before they happen, or they do not happen."""
        action, subject, details = flower_action(self)
        begin = partial(audit.begin, user, action, subject=subject, details=details)
        self._entry = await asyncio.get_running_loop().run_in_executor(None, begin)

    def on_finish(self) -> None:
        if self._entry is not None:
            status = self.get_status()
            outcome: audit.Outcome = "done" if status < 400 else "refused"
            asyncio.get_running_loop().run_in_executor(None, audit.end, self._entry, outcome, f"HTTP {status}")
        super().on_finish()


class _FlowerHandler(AuthorizedHandler):
    """Flower's own handlers: what changes something in one worker or all of them is for admins."""

    role_to_change = "admin"

    def needed_role(self) -> Role:
        if isinstance(self, TasksDataTable):
            return "viewer"  # asks with POST, and changes nothing
        if isinstance(self, tasks.TaskResult):
            # Results and error texts come as they are, personal data included.
            if not get_settings().dashboard_show_sensitive:
                raise HTTPError(403, "Results are on the run's page. For this one, set CGK_DASHBOARD_SHOW_SENSITIVE.")
            return "admin"
        return super().needed_role()

    def render(self, template_name: str, **values: Any) -> Any:
        """Without Flower's buttons for those who may not use them."""
        if "read_only" in values and not (self.current_user and self.user.may("admin")):
            values["read_only"] = True
        return super().render(template_name, **values)


_authorized: dict[type[RequestHandler], type[RequestHandler]] = {}


def authorized(handler: type[RequestHandler]) -> type[RequestHandler]:
    """The handler's class with authorization mixed in; always the same class for the same handler."""
    if issubclass(handler, (AuthorizedHandler, *PUBLIC)):
        return handler
    if handler not in _authorized:
        _authorized[handler] = type(handler.__name__, (_FlowerHandler, handler), {"__module__": handler.__module__})
    return _authorized[handler]
