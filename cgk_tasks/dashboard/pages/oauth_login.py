"""Flower's OAuth logins, with a session in PostgreSQL in the place of Flower's cookie, which no logout could end."""

from __future__ import annotations

from functools import cache
from inspect import isawaitable
from typing import Any

from celery.utils.imports import symbol_by_name
from tornado.auth import AuthError
from tornado.options import options
from tornado.web import HTTPError, RequestHandler

from cgk_tasks.dashboard.access import login_redirect
from cgk_tasks.dashboard.display import namespace
from cgk_tasks.dashboard.pages.page import Page

_FLOWER_COOKIE = "user"


class _OAuthLogin(Page):
    """Mixed in before a login handler of Flower's: that one asks the provider who it is. What fails is told on a page
    of ours.
    """

    _user_name: str | None = None
    _redirection: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    async def prepare(self) -> None:
        self.current_user = None

    async def get(self, *args: str) -> None:
        try:
            before: Any = super().get(*args)
            if isawaitable(before):
                await before
        except AuthError as exc:
            raise HTTPError(403, f"{exc}. Log in again.") from exc
        if self._redirection is None:
            return
        to, how = self._redirection
        if self._user_name is not None:
            await self.authentication.start_session(self, self._user_name)
            to = (login_redirect.pop_next_url(self) or namespace(self)["url"]("/overview"),)
        super().redirect(*to, **how)

    def redirect(self, *to: Any, **how: Any) -> None:
        """Not before the session is there."""
        self._redirection = to, how

    def render(self, template_name: str, **values: Any) -> Any:
        """Ours; Flower's handlers add to what theirs have at hand."""
        return RequestHandler.render(self, template_name, **values)

    def set_secure_cookie(self, name: str, value: str | bytes, *args: Any, **options: Any) -> None:
        if name == _FLOWER_COOKIE:
            self._user_name = value.decode() if isinstance(value, bytes) else value
        else:
            super().set_secure_cookie(name, value, *args, **options)

    def set_signed_cookie(self, name: str, value: str | bytes, *args: Any, **options: Any) -> None:
        if name == _FLOWER_COOKIE:
            self.set_secure_cookie(name, value)
        else:
            super().set_signed_cookie(name, value, *args, **options)


class _NoProvider(Page):
    """With `--auth` alone the sessions of other dashboards count, and none begins here."""

    async def prepare(self) -> None:
        self.current_user = None
        raise HTTPError(404, "Nobody can log in here: the dashboard was started without --auth_provider.")


@cache
def oauth_login_handler() -> type[RequestHandler]:
    """The handler of Flower's option `--auth_provider`, with our session."""
    if not options.auth_provider:
        return _NoProvider
    provider: type[RequestHandler] = symbol_by_name(options.auth_provider)
    return type(provider.__name__, (_OAuthLogin, provider), {"__module__": provider.__module__})
