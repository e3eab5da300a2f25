"""After an OAuth login, redirect to the page that was asked for: Flower's logins all end at its first page. Kept in a cookie."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from tornado.web import RequestHandler

_COOKIE: Final = "cgk_wanted"


def is_of_this_site(address: str) -> bool:
    """Whether it is a path here, and leads nowhere else however a browser reads it."""
    parts = urlsplit(address)
    return address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc


def remember(handler: RequestHandler) -> None:
    """Before the login: this is the page that was wanted."""
    wanted = handler.request.uri or ""
    if is_of_this_site(wanted):
        handler.set_signed_cookie(_COOKIE, wanted, expires_days=None, httponly=True, samesite="Lax")


def recall(handler: RequestHandler) -> str | None:
    """After the login, once: the page that was wanted, if it is another than this one."""
    cookie = handler.get_signed_cookie(_COOKIE)
    if cookie is None:
        return None
    handler.clear_cookie(_COOKIE)
    wanted = cookie.decode()
    return wanted if wanted != handler.request.uri else None
