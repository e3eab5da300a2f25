"""The users of the dashboard, in PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from cgk_tasks.dashboard.access.passwords import hash_password
from cgk_tasks.dashboard.roles import Account, Role
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.postgres import Row, autocommit, execute, fetch, statements, transaction

SQL = statements("dashboard_users")

SHORTEST_PASSWORD: Final = 10
_NAME: Final = re.compile(r"[\w.@+*-]{1,100}")


def find_account(name: str) -> Account | None:
    """The account of this name, else that of the longest pattern that matches it. Upper and lower case are the same."""
    with autocommit() as connection:
        return next(map(_account, fetch(connection, SQL["user"], {"name": name})), None)


def list_accounts() -> list[Account]:
    """All accounts by name, patterns among them."""
    with autocommit() as connection:
        return [_account(row) for row in fetch(connection, SQL["users"])]


def has_passwords() -> bool:
    """Whether anybody has a password."""
    with autocommit() as connection:
        return bool(fetch(connection, SQL["has_passwords"])[0]["found"])


def save_user(name: str, role: Role, password: str | None) -> None:
    """Add a user, or give one a new role and password; sessions of theirs end.

    password: None for somebody who logs in through Flower (OAuth, --basic_auth), and for a pattern such as
    `*@example.com`. Raises ConfigurationError for a name or password that will not do.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is not a name for a user. Use letters, digits and . _ @ + -")
    if is_pattern(name) and password is not None:
        raise ConfigurationError(
            f"{name!r} is a pattern: it has a role, and no password. Give a password to a name without *."
        )
    hashed = None if password is None else _hash(password)
    with transaction() as connection:
        values = {"name": name, "role": role, "password_hash": hashed}
        execute(connection, SQL["save_user"], values)
        execute(connection, SQL["delete_sessions_of_user"], values)


def import_accounts(accounts: Iterable[Account]) -> list[str]:
    """Add accounts with the hashes that they have; of names that exist already nothing is changed. Returns the
    added.
    """
    with transaction() as connection:
        return [
            account.name
            for account in accounts
            if fetch(
                connection, SQL["insert_user"],
                {"name": account.name, "role": account.role, "password_hash": account.password_hash},
            )
        ]  # fmt: skip


def set_role(name: str, role: Role) -> None:
    """Give a user, or a pattern, another role; sessions of theirs end. Raises ConfigurationError if there is none."""
    _change("set_role", {"name": name, "role": role})


def set_password(name: str, password: str) -> None:
    """Give a user another password; sessions of theirs end. Raises ConfigurationError if there is none."""
    if is_pattern(name):
        raise ConfigurationError(f"{name!r} is a pattern, which has no password.")
    _change("set_password", {"name": name, "password_hash": _hash(password)})


def remove_user(name: str) -> None:
    """Remove a user, or a pattern; sessions of theirs end. Raises ConfigurationError if there is none."""
    _change("remove_user", {"name": name})


def renew_password_hash(account: Account, password: str) -> None:
    """Store the same password in a hash of today's kind. Sessions go on."""
    with autocommit() as connection:
        values = {"name": account.name, "version": account.version, "password_hash": hash_password(password)}
        execute(connection, SQL["renew_password_hash"], values)


def is_pattern(name: str) -> bool:
    """Whether the name stands for all that match it."""
    return "*" in name


def _change(statement: str, values: Row) -> None:
    with transaction() as connection:
        if not execute(connection, SQL[statement], values):
            raise ConfigurationError(
                f"There is no user {values['name']!r}. List them with: cgk-tasks dashboard user list"
            )
        execute(connection, SQL["delete_sessions_of_user"], values)


def _hash(password: str) -> str:
    if len(password) < SHORTEST_PASSWORD:
        raise ConfigurationError(f"A password has at least {SHORTEST_PASSWORD} characters.")
    return hash_password(password)


def _account(row: Row) -> Account:
    return Account(row["name"], row["role"], row["version"], row["password_hash"])
