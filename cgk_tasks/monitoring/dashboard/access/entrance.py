"""Who is there: a session of ours, a password in the request, one of Flower's logins, or this machine's own user."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64decode
from typing import Any, Final, Literal

from flower.views import BaseHandler
from tornado.web import RequestHandler

from cgk_tasks.config import Settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.monitoring.dashboard.access.roles import Person, role_by_rules
from cgk_tasks.monitoring.dashboard.access.throttle import Throttle
from cgk_tasks.monitoring.dashboard.access.users import User, UsersFile

Way = Literal["users", "flower", "open"]

SESSION_COOKIE: Final = "cgk_session"
_SESSION_DAYS: Final = 0.5
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}
_KNOWN_FOR_SECONDS: Final = 60.0

LOOPBACK_PERSON: Final = Person("loopback", "admin")


class Entrance:
    """How people come in. `way`: by the file of users, by Flower's own logins (OAuth, basic), or without any."""

    def __init__(self, way: Way, users: UsersFile, rules: tuple[str, ...] = ()) -> None:
        self.way = way
        self.users = users
        self.throttle = Throttle()
        self._rules = rules
        self._known: dict[str, tuple[float, str, str]] = {}

    @classmethod
    def choose(cls, settings: Settings, options: Any) -> Entrance:
        """The way that settings and Flower's options ask for. Raises ConfigurationError for one that is not safe."""
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

    def person(self, handler: RequestHandler) -> Person | None:
        """Who asks, or None."""
        if self.way == "open":
            # A foreign name in Host is a page of somewhere else that has its name point to this machine.
            return LOOPBACK_PERSON if handler.request.host_name in _LOOPBACK else None
        if self.way == "flower":
            return self._by_flower(handler)
        return self._by_session(handler) or self._by_password(handler)

    def _by_flower(self, handler: RequestHandler) -> Person | None:
        found = BaseHandler.get_current_user(handler)
        if not found:
            return None
        name = found if isinstance(found, str) else _credentials(handler)[0]
        return Person(name, role_by_rules(name, self._rules))

    def _by_session(self, handler: RequestHandler) -> Person | None:
        cookie = handler.get_signed_cookie(SESSION_COOKIE, max_age_days=_SESSION_DAYS)
        if cookie is None:
            return None
        name, stamp = json.loads(cookie)
        user = self.users.users().get(name)
        return user.person if user and user.stamp == stamp else None

    def _by_password(self, handler: RequestHandler) -> Person | None:
        """For programs, such as Prometheus: name and password with each request, checked anew once a minute."""
        name, password = _credentials(handler)
        if not password:
            return None
        digest = hashlib.sha256(f"{name}\0{password}".encode()).hexdigest()
        user = self.users.users().get(name)
        known = self._known.get(name)
        if user and known and known[1:] == (digest, user.stamp) and known[0] > time.monotonic():
            return user.person
        user = self.log_in(name, password, str(handler.request.remote_ip))
        if user is None:
            return None
        self._known[name] = (time.monotonic() + _KNOWN_FOR_SECONDS, digest, user.stamp)
        return user.person

    def log_in(self, name: str, password: str, address: str) -> User | None:
        """The user, if the password is right and neither name nor address has guessed too often."""
        keys = (f"name {name}", f"address {address}")
        if self.throttle.wait_seconds(*keys):
            return None
        user = self.users.check(name, password)
        if user is None:
            self.throttle.failed(*keys)
        else:
            self.throttle.succeeded(*keys)
        return user

    @staticmethod
    def open_session(handler: RequestHandler, user: User) -> None:
        handler.set_signed_cookie(
            SESSION_COOKIE, json.dumps([user.name, user.stamp]), expires_days=None, httponly=True, samesite="Lax",
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
