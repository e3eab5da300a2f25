"""The file of users: `{"users": [{"name": ..., "role": ..., "password": "scrypt$..."}]}`, readable by its owner only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cgk_tasks.dashboard.access.passwords import dummy_hash, hash_password, verify_password
from cgk_tasks.dashboard.access.roles import Role, User, as_role
from cgk_tasks.errors import ConfigurationError

SHORTEST_PASSWORD: Final = 10
_NAME: Final = re.compile(r"[\w.@+-]{1,100}")


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody with a password. `password` is its hash."""

    name: str
    role: Role
    password: str

    @property
    def user(self) -> User:
        return User(self.name, self.role)

    @property
    def stamp(self) -> str:
        """Changes with the password, so that sessions end when it does."""
        return hashlib.sha256(self.password.encode()).hexdigest()[:16]


class UsersFile:
    """The users in a file. It is read again when it has changed: no restart after adding or removing somebody."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at = -1
        self._users: dict[str, Account] = {}

    def users(self) -> dict[str, Account]:
        """The users by name; none if there is no file. Raises ConfigurationError for a file that cannot be read."""
        try:
            changed_at = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            self._read_at, self._users = -1, {}
            return self._users
        except OSError as exc:
            raise ConfigurationError(f"The file of users {self.path} cannot be read: {exc}") from exc
        if changed_at != self._read_at:
            self._users = self._parsed()
            self._read_at = changed_at
        return self._users

    def _parsed(self) -> dict[str, Account]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))["users"]
            users = [Account(str(one["name"]), as_role(one["role"]), str(one["password"])) for one in entries]
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise ConfigurationError(
                f"The file of users {self.path} cannot be read ({type(exc).__name__}: {exc}). "
                "Mend it, or remove it and add users with: cgk-tasks dashboard user add NAME --role operator"
            ) from exc
        return {account.name: account for account in users}

    def add(self, name: str, role: Role, password: str) -> Account:
        """Add an account, or give one a new role and password. Raises ConfigurationError for a poor name or password."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is not a name for a user. Use letters, digits and . _ @ + -")
        if len(password) < SHORTEST_PASSWORD:
            raise ConfigurationError(f"A password has at least {SHORTEST_PASSWORD} characters.")
        account = Account(name, role, hash_password(password))
        self._write({**self.users(), name: account})
        return account

    def remove(self, name: str) -> None:
        """Remove an account, whose sessions end at once. Raises ConfigurationError if there is none."""
        users = dict(self.users())
        if users.pop(name, None) is None:
            raise ConfigurationError(f"There is no user {name!r} in {self.path}.")
        self._write(users)

    def _write(self, users: dict[str, Account]) -> None:
        """Whole or not at all, and never readable by others."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"users": [asdict(account) for account in users.values()]}, indent=2) + "\n"
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".users-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(self.path)
        self._read_at = -1

    def check(self, name: str, password: str) -> Account | None:
        """The account with this name and password, or None. Takes as long for a name that does not exist."""
        account = self.users().get(name)
        return account if verify_password(password, account.password if account else dummy_hash()) and account else None
