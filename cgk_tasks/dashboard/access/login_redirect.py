"""After an OAuth login, redirect to the page that was asked for. It is kept in a cookie meanwhile.

Flower's own logins all end at its first page.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from tornado.web import RequestHandler

_COOKIE: Final = "cgk_next"


def is_of_this_site(address: str) -> bool:
    """Whether it is a path here, and leads nowhere else however a browser reads it."""
    parts = urlsplit(address)
    return address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc


def save_next_url(handler: RequestHandler) -> None:
    """Before the login: keep the address of the page that was asked for."""
    address = handler.request.uri or ""
    if is_of_this_site(address):
        handler.set_signed_cookie(_COOKIE, address, expires_days=None, httponly=True, samesite="Lax")


def pop_next_url(handler: RequestHandler) -> str | None:
    """After the login, once: the address of the page that was asked for."""
    cookie = handler.get_signed_cookie(_COOKIE)
    if cookie is None:
        return None
    handler.clear_cookie(_COOKIE)
    return cookie.decode()
