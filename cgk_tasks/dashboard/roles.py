"""Roles, and the users who have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from cgk_tasks.errors import ConfigurationError

Role = Literal["viewer", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""From the one who may only look to the one who may do everything; each may do what those before it may."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is logged in."""

    name: str
    role: Role

    def __str__(self) -> str:
        """As Flower's pages call them."""
        return self.name

    def may(self, role: Role) -> bool:
        """Whether this user may do what needs `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True, slots=True)
class Account:
    """What is stored about a user, or about a pattern of names.

    version: changes with the role and the password; sessions of another version have ended.
    password_hash: None for those who log in through Flower (OAuth, --basic_auth) only.
    """

    name: str
    role: Role
    version: str
    password_hash: str | None = field(default=None, repr=False)


def as_role(text: str) -> Role:
    """The role of this name. Raises ConfigurationError."""
    if text not in ROLES:
        raise ConfigurationError(f"There is no role {text!r}. There are: {', '.join(ROLES)}.")
    return text
