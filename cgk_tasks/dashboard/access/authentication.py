"""Who makes a request: by a session, a password in the request, one of Flower's logins, or the loopback address."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Literal, ParamSpec, TypeVar

from flower.utils.authentication import authenticate
from tornado.web import HTTPError, RequestHandler

from cgk_tasks.config import Settings
from cgk_tasks.dashboard.access import sessions, users
from cgk_tasks.dashboard.access.deprecated_settings import UsersFile, account_by_rules, is_of_file
from cgk_tasks.dashboard.access.login_limiter import LoginLimiter
from cgk_tasks.dashboard.access.passwords import dummy_hash, needs_rehash, verify_password
from cgk_tasks.dashboard.roles import Account, User
from cgk_tasks.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")

Method = Literal["users", "oauth", "basic", "open"]

SESSION_COOKIE: Final = "cgk_session"
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}
_VERIFIED_FOR_SECONDS: Final = 60.0

LOOPBACK_USER: Final = User("loopback", "admin")


class TooManyLoginsError(HTTPError):
    """Too many wrong passwords came from this address. ``wait_seconds``: how long it has to wait."""

    def __init__(self, wait_seconds: float) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(429, f"Too many failed logins. Try again in {wait_seconds:.0f} s.")


class Authentication:
    """`method`: by passwords in PostgreSQL, by Flower's logins (OAuth, basic auth), or without a login on loopback.

    basic_auth: Flower's `--basic_auth`, texts of name:password. With OAuth as well, both are needed, as in Flower.
    oauth_pattern: Flower's `--auth`, which addresses may log in by OAuth.
    """

    def __init__(
        self, method: Method, settings: Settings, *, basic_auth: Sequence[str] = (), oauth_pattern: str = ""
    ) -> None:
        self.method = method
        self.limiter = LoginLimiter()
        self.users_file = UsersFile(settings.dashboard_users_file)
        self._rules = settings.dashboard_roles
        self._basic_auth = basic_auth
        self._oauth_pattern = oauth_pattern
        self._verified: dict[str, tuple[float, str, str]] = {}
        # One password at a time: a flood of logins costs one thread and 64 MiB, and cannot outrun the limiter.
        self._passwords = ThreadPoolExecutor(1, thread_name_prefix="passwords")

    @classmethod
    def choose(cls, settings: Settings, options: Any) -> Authentication:
        """As settings and Flower's options ask for. Raises ConfigurationError for what is not safe."""
        account_by_rules("", settings.dashboard_roles)
        if options.auth or options.basic_auth:
            method: Method = "oauth" if options.auth else "basic"
            return cls(method, settings, basic_auth=options.basic_auth or (), oauth_pattern=options.auth or "")
        if settings.dashboard_open_on_loopback:
            if options.address not in _LOOPBACK or options.unix_socket:
                raise ConfigurationError(
                    "CGK_DASHBOARD_OPEN_ON_LOOPBACK is set, but the dashboard listens on "
                    f"{options.address or 'every address'!r}. "
                    "Listen on 127.0.0.1, or unset it and add users: cgk-tasks dashboard user add NAME --role operator"
                )
            return cls("open", settings)
        return cls("users", settings)

    async def user(self, handler: RequestHandler) -> User | None:
        """The user who makes the request, or None. Raises TooManyLoginsError, and the driver's errors."""
        if self.method == "open":
            # Another name in Host means DNS rebinding: a page of another site whose name resolves to this machine.
            return LOOPBACK_USER if handler.request.host_name in _LOOPBACK else None
        name, password = _credentials(handler)
        address = str(handler.request.remote_ip)
        if self._basic_auth and not (name and await self._check_basic_auth(name, password, address)):
            return None
        if self.method == "basic":
            account = await _in_thread(self._account, name)
            return User(name, account.role) if account else None
        token = handler.get_cookie(SESSION_COOKIE)
        found = await _in_thread(self._by_session, token) if token else None
        if found is not None or self.method != "users" or not password:
            return found
        account = await self.log_in(name, password, address)
        return User(account.name, account.role) if account else None

    async def log_in(self, name: str, password: str, address: str) -> Account | None:
        """The account, if the password is right. Raises TooManyLoginsError, and the driver's errors."""
        account = await _in_thread(self._account, name)
        digest = hashlib.sha256(f"{name}\0{password}".encode()).hexdigest()
        if account and self._was_verified(account, digest):
            return account
        stored = account.password_hash if account else None
        is_right = await self._check(name, address, partial(_is_right, password, stored))
        if not is_right or account is None or stored is None:
            return None
        if needs_rehash(stored) and not is_of_file(account):
            await self._in_password_thread(users.renew_password_hash, account, password)
        # Programs, such as Prometheus, send their password with each request.
        self._verified[account.name] = (time.monotonic() + _VERIFIED_FOR_SECONDS, digest, account.version)
        return account

    async def start_session(self, handler: RequestHandler, name: str, account: Account | None = None) -> None:
        """Begin a session for somebody who has just proved to be this user; account: as it was when they did."""
        known = account or await _in_thread(self._account, name)
        if known is None:
            raise HTTPError(403, f"There is no user {name!r}.")
        token = await _in_thread(sessions.create_session, name, known)
        handler.set_cookie(
            SESSION_COOKIE, token, httponly=True, samesite="Lax", secure=handler.request.protocol == "https"
        )

    async def end_session(self, handler: RequestHandler) -> None:
        """End the session of the request, here and in the browser."""
        token = handler.get_cookie(SESSION_COOKIE)
        if token:
            await _in_thread(sessions.end_session, token)
        handler.clear_cookie(SESSION_COOKIE)

    def has_users(self) -> bool:
        """Whether anybody can log in with a password."""
        return users.has_passwords() or bool(self.users_file.accounts())

    def _account(self, name: str) -> Account | None:
        """What is stored about this user: for a login by password, by exact name; else with patterns, and by
        default.
        """
        account = users.find_account(name)
        if self.method != "users":
            return account or account_by_rules(name, self._rules) or Account(name, "viewer", "default")
        if account is not None and account.password_hash is not None:
            return account
        return self.users_file.find(name)

    def _by_session(self, token: str) -> User | None:
        session = sessions.find_session(token)
        account = self._account(session.user_name) if session else None
        if session is None or account is None or account.version != session.account_version:
            return None
        if self.method == "oauth" and not authenticate(self._oauth_pattern, session.user_name):
            return None  # `--auth` has changed since the login
        return User(account.name if self.method == "users" else session.user_name, account.role)

    async def _check_basic_auth(self, name: str, password: str, address: str) -> bool:
        given = f"{name}:{password}".encode()

        def matches() -> bool:
            # All are compared, so that the time does not tell which one it was.
            return sum(hmac.compare_digest(one.encode(), given) for one in self._basic_auth) > 0

        return await self._check(name, address, matches)

    async def _check(self, name: str, address: str, is_right: Callable[[], bool]) -> bool:
        """Check a password as slowly as the limiter asks for. Raises TooManyLoginsError."""
        await asyncio.sleep(self.limiter.delay_seconds(name, address))
        return await self._in_password_thread(self._check_now, name, address, is_right)

    def _check_now(self, name: str, address: str, is_right: Callable[[], bool]) -> bool:
        wait = self.limiter.wait_seconds(name, address)
        if wait:
            raise TooManyLoginsError(wait)
        if not is_right():
            self.limiter.failed(name, address)
            return False
        self.limiter.succeeded(name, address)
        return True

    async def _in_password_thread(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        call = partial(function, *args, **options)
        return await asyncio.get_running_loop().run_in_executor(self._passwords, call)

    def _was_verified(self, account: Account, digest: str) -> bool:
        until, known, version = self._verified.get(account.name, (0.0, "", ""))
        return until > time.monotonic() and hmac.compare_digest(known, digest) and version == account.version


def _is_right(password: str, stored: str | None) -> bool:
    """Takes as long for a user who does not exist."""
    return verify_password(password, stored or dummy_hash()) and stored is not None


async def _in_thread(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call what talks to PostgreSQL."""
    return await asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **options))


def _credentials(handler: RequestHandler) -> tuple[str, str]:
    """Name and password of the request's Authorization header; empty if there is none."""
    kind, _, text = handler.request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        name, _, password = b64decode(text).decode().partition(":")
    except ValueError:
        return "", ""
    return ("", "") if "\0" in name else (name, password)  # PostgreSQL has no texts with it
