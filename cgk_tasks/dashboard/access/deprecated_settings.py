"""Users and roles as they were configured before they were in PostgreSQL. Deprecated, and still in force.

CGK_DASHBOARD_USERS_FILE: `{"users": [{"name": ..., "role": ..., "password": "scrypt$..."}]}`.
CGK_DASHBOARD_ROLES: `ada@example.com=admin,*@example.com=operator`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import structlog

from cgk_tasks.config import Settings
from cgk_tasks.dashboard.roles import Account, Role, as_role
from cgk_tasks.errors import ConfigurationError

log = structlog.get_logger("cgk_tasks.dashboard")


class UsersFile:
    """The users in a file. It is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at = -1
        self._accounts: dict[str, Account] = {}

    def accounts(self) -> dict[str, Account]:
        """The accounts by name; none if there is no file. Raises ConfigurationError for one that cannot be read."""
        try:
            changed_at = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            self._read_at, self._accounts = -1, {}
            return self._accounts
        except OSError as exc:
            raise ConfigurationError(f"The file of users {self.path} cannot be read: {exc}") from exc
        if changed_at != self._read_at:
            self._accounts = self._parsed()
            self._read_at = changed_at
        return self._accounts

    def _parsed(self) -> dict[str, Account]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))["users"]
            accounts = [_account(str(one["name"]), as_role(one["role"]), str(one["password"])) for one in entries]
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise ConfigurationError(
                f"The file of users {self.path} cannot be read ({type(exc).__name__}: {exc}). "
                "Correct it, or remove it and add users with: cgk-tasks dashboard user add NAME --role operator"
            ) from exc
        return {account.name: account for account in accounts}

    def find(self, name: str) -> Account | None:
        """The account of this name. Upper and lower case are the same, as they are in PostgreSQL."""
        return next((one for one in self.accounts().values() if one.name.lower() == name.lower()), None)

    def remove(self, name: str) -> bool:
        """Take a user out, who has been moved to PostgreSQL or removed. Returns whether there was one."""
        kept = [one for one in self.accounts().values() if one.name.lower() != name.lower()]
        if len(kept) == len(self.accounts()):
            return False
        entries = [{"name": one.name, "role": one.role, "password": one.password_hash} for one in kept]
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".users-")  # readable by its owner only
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps({"users": entries}, indent=2) + "\n")
        Path(temporary).replace(self.path)
        self._read_at = -1
        return True


def _account(name: str, role: Role, password_hash: str) -> Account:
    digest = hashlib.sha256(f"{role}\0{password_hash}".encode()).hexdigest()[:16]
    return Account(name, role, f"file {digest}", password_hash)


def is_of_file(account: Account) -> bool:
    """Whether the account stands in the file, and not in PostgreSQL."""
    return account.version.startswith("file ")


def account_by_rules(name: str, rules: Sequence[str]) -> Account | None:
    """An account with the role that CGK_DASHBOARD_ROLES gives to a name: that of the first rule that matches.

    Raises ConfigurationError for a rule that is not like `*@example.com=operator`.
    """
    parsed = [_rule(rule) for rule in rules]
    role = next((role for pattern, role in parsed if fnmatchcase(name.lower(), pattern.lower())), None)
    return Account(name, role, f"rule {role}") if role else None


def _rule(text: str) -> tuple[str, Role]:
    pattern, equals, role = text.rpartition("=")
    if not equals or not pattern:
        raise ConfigurationError(f"CGK_DASHBOARD_ROLES has {text!r}. Write it like *@example.com=operator.")
    return pattern.strip(), as_role(role.strip())


def warn_about_deprecated_settings(settings: Settings) -> None:
    """Say what to run instead, for each of the two that is in use."""
    path = settings.dashboard_users_file
    if path.exists():
        log.warning("dashboard_users_file_deprecated", file=str(path), hint=f"cgk-tasks dashboard user import {path}")
    if settings.dashboard_roles:
        hints = [
            f"cgk-tasks dashboard user add '{pattern}' --role {role} --no-password"
            for pattern, role in map(_rule, settings.dashboard_roles)
        ]
        log.warning("dashboard_roles_deprecated", setting="CGK_DASHBOARD_ROLES", hint="; ".join(hints))
