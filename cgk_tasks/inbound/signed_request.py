"""A request that its sender has signed, and what the checks of all schemes have in common."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cgk_tasks.errors import RequestRefusedError

_LONGEST_TIME: Final = 12


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came. headers: names in small letters. url: that the sender was told. now: seconds since 1970."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str
    now: float

    def header(self, name: str) -> str:
        """Raises RequestRefusedError, 401, where it is missing."""
        value = self.headers.get(name.lower())
        if not value:
            raise refused(f"The header {name} is missing.")
        return value


def refused(text: str) -> RequestRefusedError:
    return RequestRefusedError(
        text, "BAD_SIGNATURE", 401, hint="Is it signed with the secret that is set here, and is the body unchanged?"
    )


def matches(given: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether one of those that were given is one of those that count. It takes as long for a near miss."""
    found = False
    for one in given:
        for other in expected:
            found |= hmac.compare_digest(one.encode(), other.encode())
    return found


def check_time(name: str, text: str, now: float, tolerance: float) -> int:
    """The time that was signed, in seconds. Raises RequestRefusedError, 401, for one that lies too far from now."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_TIME):
        raise refused(f"{name} has no time in seconds since 1970.")
    if abs(now - int(text)) > tolerance:
        raise refused(f"The time that was signed is more than {tolerance:g} s from now.")
    return int(text)
