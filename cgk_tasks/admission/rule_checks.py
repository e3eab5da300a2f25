"""What the numbers and keys of rules may be."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final, Literal, get_args

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, ConfigurationError, as_seconds

Per = Literal["tenant", "all"]

LARGEST: Final = 1_000_000_000
_SHORTEST_SECONDS: Final = 0.001


def check_per(rule: object, per: object) -> None:
    if per not in get_args(Per):
        raise invalid(rule, "per", per, '"tenant" or "all"')


def check_key(rule: object, key: object) -> None:
    if key is not None and (not isinstance(key, str) or not key or not key.isprintable()):
        raise invalid(rule, "key", key, "the name of a field of the payload")


def check_count(rule: object, option: str, value: object, most: int = LARGEST) -> None:
    if type(value) is not int or not 1 <= value <= most:
        upto = "" if most == LARGEST else f" to {most}"
        raise invalid(rule, option, value, f"a whole number from 1{upto}")


def check_duration(rule: object, option: str, value: Any) -> None:
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        seconds = as_seconds(value)
        if math.isfinite(seconds) and _SHORTEST_SECONDS <= seconds <= LONGEST_WAIT_SECONDS:
            return
    raise invalid(rule, option, value, f"at least {_SHORTEST_SECONDS:g} seconds, or a timedelta")


def invalid(rule: object, option: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{type(rule).__name__}: {option} must be {expected}, not {value!r}.")
