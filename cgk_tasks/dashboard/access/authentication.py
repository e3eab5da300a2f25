"""Who makes a request: by a session, a password in the request, one of Flower's logins, or the loopback address."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64decode
from typing import Any, Final, Literal

from flower.views import BaseHandler
from tornado.web import RequestHandler

from cgk_tasks.config import Settings
from cgk_tasks.dashboard.access.login_limiter import LoginLimiter
from cgk_tasks.dashboard.access.roles import User, role_by_rules
from cgk_tasks.dashboard.access.users import Account, UsersFile
from cgk_tasks.errors import ConfigurationError

Method = Literal["users", "flower", "open"]

SESSION_COOKIE: Final = "cgk_session"
_SESSION_DAYS: Final = 0.5
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}
_KNOWN_FOR_SECONDS: Final = 60.0

LOOPBACK_USER: Final = User("loopback", "admin")


class Authentication:
    """`method`: by the file of users, by Flower's own logins (OAuth, basic auth), or without a login on loopback."""

    def __init__(self, method: Method, users: UsersFile, rules: tuple[str, ...] = ()) -> None:
        self.method = method
        self.users = users
        self.login_limiter = LoginLimiter()
        self._rules = rules
        self._known: dict[str, tuple[float, str, str]] = {}

    @classmethod
    def choose(cls, settings: Settings, options: Any) -> Authentication:
        """As settings and Flower's options ask for. Raises ConfigurationError for what is not safe."""
        users = UsersFile(settings.dashboard_users_file)
        if options.auth or options.basic_auth:
            role_by_rules("", settings.dashboard_roles)
            return cls("flower", users, settings.dashboard_roles)
        if settings.dashboard_open_on_loopback:
            if options.address not in _LOOPBACK or options.unix_socket:
                raise ConfigurationError(
                    f"CGK_DASHBOARD_OPEN_ON_LOOPBACK is set, but the dashboard listens on {options.address or 'every address'!r}. "
                    "Listen on 127.0.0.1, or unset it and add users: cgk-tasks dashboard user add NAME --role operator"
                )
            return cls("open", users)
        return cls("users", users)

    def user(self, handler: RequestHandler) -> User | None:
        """The user who makes the request, or None."""
        if self.method == "open":
            # Another name in Host means DNS rebinding: a page of another site whose name resolves to this machine.
            return LOOPBACK_USER if handler.request.host_name in _LOOPBACK else None
        if self.method == "flower":
            return self._by_flower(handler)
        return self._by_session(handler) or self._by_password(handler)

    def _by_flower(self, handler: RequestHandler) -> User | None:
        found = BaseHandler.get_current_user(handler)
        if not found:
            return None
        name = found if isinstance(found, str) else _credentials(handler)[0]
        return User(name, role_by_rules(name, self._rules))

    def _by_session(self, handler: RequestHandler) -> User | None:
        cookie = handler.get_signed_cookie(SESSION_COOKIE, max_age_days=_SESSION_DAYS)
        if cookie is None:
            return None
        name, stamp = json.loads(cookie)
        account = self.users.users().get(name)
        return account.user if account and account.stamp == stamp else None

    def _by_password(self, handler: RequestHandler) -> User | None:
        """For programs, such as Prometheus: name and password with each request, checked anew once a minute."""
        name, password = _credentials(handler)
        if not password:
            return None
        digest = hashlib.sha256(f"{name}\0{password}".encode()).hexdigest()
        account = self.users.users().get(name)
        known = self._known.get(name)
        if account and known and known[1:] == (digest, account.stamp) and known[0] > time.monotonic():
            return account.user
        account = self.log_in(name, password, str(handler.request.remote_ip))
        if account is None:
            return None
        self._known[name] = (time.monotonic() + _KNOWN_FOR_SECONDS, digest, account.stamp)
        return account.user

    def log_in(self, name: str, password: str, address: str) -> Account | None:
        """The account, if the password is right and neither name nor address has guessed too often."""
        keys = (f"name {name}", f"address {address}")
        if self.login_limiter.wait_seconds(*keys):
            return None
        account = self.users.check(name, password)
        if account is None:
            self.login_limiter.failed(*keys)
        else:
            self.login_limiter.succeeded(*keys)
        return account

    @staticmethod
    def open_session(handler: RequestHandler, account: Account) -> None:
        handler.set_signed_cookie(
            SESSION_COOKIE, json.dumps([account.name, account.stamp]), expires_days=None, httponly=True, samesite="Lax",
            secure=handler.request.protocol == "https",
        )  # fmt: skip


def _credentials(handler: RequestHandler) -> tuple[str, str]:
    """Name and password of the request's Authorization header; empty if there is none."""
    kind, _, text = handler.request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        name, _, password = b64decode(text).decode().partition(":")
    except ValueError:
        return "", ""
    return name, password
