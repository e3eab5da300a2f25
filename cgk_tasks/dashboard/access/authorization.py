"""Every request is authorized before its handler runs: user, role, CSRF token."""

from __future__ import annotations

import math
from inspect import isawaitable
from typing import Any, Final, cast
from urllib.parse import urlencode

import psycopg
import sqlalchemy as sa
import structlog
from tornado.web import HTTPError, RequestHandler

from cgk_tasks.dashboard.access import login_redirect
from cgk_tasks.dashboard.access.authentication import Authentication, TooManyLoginsError
from cgk_tasks.dashboard.roles import Role, User
from cgk_tasks.errors import ConfigurationError

log = structlog.get_logger("cgk_tasks.dashboard")

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# Images, scripts and styles from here alone, and nothing inline.
STRICT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class AuthorizedHandler(RequestHandler):
    """A handler of ours, or mixed in before one of Flower's: login, role, CSRF token, headers."""

    role_to_look: Role = "viewer"
    role_to_change: Role = "operator"

    _retry_after: float | None = None
    _asks_for_password = False

    @property
    def authentication(self) -> Authentication:
        authentication: Authentication = self.settings["authentication"]
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
        self.set_header("Content-Security-Policy", STRICT_POLICY)

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
            raise HTTPError(
                403,
                f"This needs the role {needed}. {found.name} is {found.role}. "
                "Roles are given with: cgk-tasks dashboard user set-role",
            )
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
        self.redirect(f"{self.get_login_url()}?{urlencode({'next': self.request.uri})}")
