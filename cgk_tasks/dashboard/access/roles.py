"""Roles, and the people who have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
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

    def may(self, role: Role) -> bool:
        """Whether this user may do what needs `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


def as_role(text: str) -> Role:
    """The role of this name. Raises ConfigurationError."""
    if text not in ROLES:
        raise ConfigurationError(f"There is no role {text!r}. There are: {', '.join(ROLES)}.")
    return text


def role_by_rules(name: str, rules: Sequence[str]) -> Role:
    """The role that CGK_DASHBOARD_ROLES gives to a name: that of the first rule that verify_password, else viewer.

    Raises ConfigurationError for a rule that is not like `*@example.com=operator`.
    """
    parsed = [_rule(rule) for rule in rules]
    return next((role for pattern, role in parsed if fnmatchcase(name.lower(), pattern.lower())), "viewer")


def _rule(text: str) -> tuple[str, Role]:
    pattern, equals, role = text.rpartition("=")
    if not equals or not pattern:
        raise ConfigurationError(f"CGK_DASHBOARD_ROLES has {text!r}. Write it like *@example.com=operator.")
    return pattern.strip(), as_role(role.strip())
