"""Guards: what several jobs use together, such as a partner's API, and how many of their runs may at once.

A guard is a gate whose numbers move with how the partner answers. This is what the code declares of it; how it moves is
in `guard_moves`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final

from cgk_tasks.admission.rule_checks import Per, check_count, check_duration, check_per, invalid
from cgk_tasks.errors import as_seconds

_LONGEST_NAME: Final = 100


@dataclass(frozen=True)
class Guard:
    """What `define_guard` declares. at_once: the most. probe_after: seconds or timedelta for which it is closed after
    failures, and after which one run may try. Raises ConfigurationError for a value out of range.
    """

    kind: ClassVar[str] = "guard"
    key: ClassVar[None] = None
    """Of a payload's field: a guard has none."""
    name: str
    at_once: int
    per: Per = "all"
    probe_after: float | timedelta = 30.0

    def __post_init__(self) -> None:
        if not is_guard_name(self.name):
            raise invalid(self, "name", self.name, f"1 to {_LONGEST_NAME} printable characters without spaces and /")
        check_count(self, "at_once", self.at_once)
        check_per(self, self.per)
        check_duration(self, "probe_after", self.probe_after)
        # So that it is the same one as that which was read from its text.
        object.__setattr__(self, "probe_after", as_seconds(self.probe_after))

    @property
    def probe_seconds(self) -> float:
        return as_seconds(self.probe_after)


def is_guard_name(name: object) -> bool:
    return (
        isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable() and not {" ", "/"} & set(name)
    )
