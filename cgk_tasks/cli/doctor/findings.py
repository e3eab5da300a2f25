"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["OK", "WARN", "FAIL"]
OK: Final = "OK"
WARN: Final = "WARN"
FAIL: Final = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. advice: what to do, where something is to be done."""

    check: str
    level: Level
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Finding:
    return Finding(check, OK, message)


def warn(check: str, message: str, advice: str = "") -> Finding:
    return Finding(check, WARN, message, advice)


def fail(check: str, message: str, advice: str = "") -> Finding:
    return Finding(check, FAIL, message, advice)
