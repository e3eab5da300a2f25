"""Flower's OAuth logins, with a session in PostgreSQL in the place of Flower's cookie, which no logout could end."""

from __future__ import annotations

from functools import cache
from inspect import isawaitable
from typing import Any

from celery.utils.imports import symbol_by_name
from tornado.options import options
from tornado.web import RequestHandler

from cgk_tasks.dashboard.access import login_redirect
from cgk_tasks.dashboard.access.authentication import Authentication

_FLOWER_COOKIE = "user"


class _OAuthLogin(RequestHandler):
    """Mixed in before a login handler of Flower's: that one asks the provider who it is."""

    _user_name: str | None = None
    _redirection: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    async def get(self, *args: str) -> None:
        before: Any = super().get(*args)
        if isawaitable(before):
            await before
        if self._redirection is None:
            return
        to, how = self._redirection
        if self._user_name is not None:
            authentication: Authentication = self.application.authentication  # type: ignore[attr-defined]
            await authentication.start_session(self, self._user_name)
            if address := login_redirect.pop_next_url(self):
                to = (address,)
        super().redirect(*to, **how)

    def redirect(self, *to: Any, **how: Any) -> None:
        """Not before the session is there."""
        self._redirection = to, how

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


@cache
def oauth_login_handler() -> type[RequestHandler]:
    """The handler of Flower's option `--auth_provider`, with our session."""
    provider: type[RequestHandler] = symbol_by_name(options.auth_provider)
    return type(provider.__name__, (_OAuthLogin, provider), {"__module__": provider.__module__})
