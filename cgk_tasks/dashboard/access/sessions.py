"""Sessions, in PostgreSQL: a random token in a cookie, and its hash in a table. Logging out deletes it there."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from cgk_tasks.dashboard.roles import Account
from cgk_tasks.sql.postgres import autocommit, execute, fetch, statements

SQL = statements("dashboard_users")

SESSION_SECONDS: Final = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Session:
    """Who began it, and the version that the account had then."""

    user_name: str
    account_version: str


def create_session(user_name: str, account: Account) -> str:
    """Begin a session of at most twelve hours. Returns its token. Sessions that have expired are deleted."""
    token = secrets.token_urlsafe(32)
    values = {
        "token_hash": _hash(token), "user_name": user_name, "account_version": account.version,
        "seconds": SESSION_SECONDS,
    }  # fmt: skip
    with autocommit() as connection:
        execute(connection, SQL["delete_expired_sessions"])
        execute(connection, SQL["create_session"], values)
    return token


def find_session(token: str) -> Session | None:
    """The session with this token, if it has neither ended nor expired."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["session"], {"token_hash": _hash(token)})
    return Session(**rows[0]) if rows else None


def end_session(token: str) -> None:
    """End it, wherever its cookie may be by now."""
    with autocommit() as connection:
        execute(connection, SQL["delete_session"], {"token_hash": _hash(token)})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
