"""`Page`: the base of our pages. Queries run in threads, so that one slow page holds up no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from http.client import responses
from typing import Any, Final, ParamSpec, TypeVar

import psycopg
import sqlalchemy as sa
import structlog
from tornado.web import HTTPError, RequestHandler

from cgk_tasks.dashboard.access.authorization import AuthorizedHandler
from cgk_tasks.dashboard.display import fields, namespace
from cgk_tasks.errors import (
    CgkTasksError,
    InvalidTenantError,
    RunStateError,
    StoreError,
    UnknownEventError,
    UnknownKeyError,
    UnknownRunError,
    UnknownScheduleError,
    UnknownTenantError,
)
from cgk_tasks.sql import postgres

log = structlog.get_logger("cgk_tasks.dashboard")

P = ParamSpec("P")
T = TypeVar("T")

_FLASH_COOKIE = "cgk_flash"


class Page(AuthorizedHandler):
    """A page of ours. Errors are told in words."""

    def get_template_namespace(self) -> dict[str, Any]:
        return super().get_template_namespace() | namespace(self)

    def check_xsrf_cookie(self) -> None:
        try:
            super().check_xsrf_cookie()
        except HTTPError as exc:
            text = (
                "The form has no token, or not that of this browser. Open its page again, and press the button there."
            )
            raise HTTPError(403, text) from exc

    async def run_blocking(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Call a function that talks to PostgreSQL, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **options))

    def field(self, name: str) -> str:
        """What a form or the address says for this name; empty if nothing."""
        return self.get_argument(name, "").strip()

    def whole_number(self, name: str, default: int) -> int:
        """A number from a form or the address. Raises HTTPError 400 for what is none."""
        text = self.field(name)
        try:
            return int(text) if text else default
        except ValueError:
            raise HTTPError(400, f"{name} must be a whole number, not {text[:40]!r}") from None

    def redirect_to(self, path: str, flash: str = "", **query: object) -> None:
        """Show another page after an action, with a message on what was done."""
        if flash:
            self.set_signed_cookie(_FLASH_COOKIE, flash.encode(), expires_days=None, httponly=True, samesite="Lax")
        self.redirect(namespace(self)["url"](path, **query), status=303)

    def show(self, template: str, **values: Any) -> None:
        """Render a template of ours."""
        flash = self.get_signed_cookie(_FLASH_COOKIE)
        if flash is not None:
            self.clear_cookie(_FLASH_COOKIE)
        self.render(template, flash=flash.decode() if flash else "", fields=fields, **values)

    def write_error(self, status_code: int, **options: Any) -> None:
        error = options.get("exc_info", (None, None, None))[1]
        self.current_user = getattr(self, "_current_user", None)
        status, text = _explained(status_code, error)
        if status == 503 and self.current_user is None and not isinstance(error, HTTPError):
            text = "PostgreSQL cannot be reached, or has none of our tables. The dashboard's log has the reason."
        self.set_status(status)
        if status == 405:
            taken = [name for name in self.SUPPORTED_METHODS if getattr(type(self), name.lower()) is not _NOT_TAKEN]
            self.set_header("Allow", ", ".join(taken))
        accepted = self.request.headers.get("Accept", "")
        if "text/html" in accepted or "HX-Request" in self.request.headers:
            self.render("problem.html", flash="", fields=fields, status=status, text=text)
        elif "json" in accepted:
            self.set_header("Content-Type", "application/problem+json")
            self.finish(json.dumps({"title": responses.get(status, "Error"), "status": status, "detail": text}))
        else:
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(f"{text}\n")

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, CgkTasksError):
            super().log_exception(typ, value, tb)


_STATUS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...] = (
    ((UnknownRunError, UnknownTenantError, UnknownScheduleError, UnknownKeyError, UnknownEventError), 404),
    (RunStateError, 409),
    (StoreError, 503),
    (InvalidTenantError, 400),
    (CgkTasksError, 400),
)

_NOT_TAKEN: Final = RequestHandler.head
"""What Tornado has for each method that a handler does not."""

_SAID: Final = {
    404: "There is no page at this address.",
    405: "This address does not take such requests. If a button leads here, open the page that has it.",
}


def _explained(status_code: int, error: BaseException | None) -> tuple[int, str]:
    """A status and words for an error. What is not known to be harmless to show is not shown."""
    if isinstance(error, psycopg.Error | sa.exc.SQLAlchemyError):
        if not postgres.is_away(error) and not isinstance(error, psycopg.errors.UndefinedTable):
            return 500, "PostgreSQL refused a question of this page. The dashboard's log has the details."
        error = postgres.explain(error)
    if isinstance(error, CgkTasksError):
        return next(status for kinds, status in _STATUS if isinstance(error, kinds)), str(error)
    if isinstance(error, HTTPError):
        return status_code, error.get_message() or error.reason or _SAID.get(status_code, "")
    return status_code, "Something went wrong. The dashboard's log has the details."
