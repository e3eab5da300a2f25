"""Which of Celery's tests do not apply, and why: not_applicable.txt."""

from fnmatch import fnmatch
from functools import cache
from pathlib import Path


@cache
def patterns() -> dict[str, str]:
    """The reason of each pattern of tests."""
    reasons: dict[str, str] = {}
    reason = ""
    for line in Path(__file__).with_suffix(".txt").read_text().splitlines():
        if line.startswith(" "):
            reasons[line.strip()] = reason
        elif line and not line.startswith("#"):
            reason = line.rstrip(":")
    return reasons


def reason_of(test: str) -> str | None:
    """Why a test does not apply; None if it does."""
    # Square brackets are parameters in a test's name, and a set of characters in fnmatch.
    plain = test.replace("[", "(").replace("]", ")")
    return next((reason for pattern, reason in patterns().items() if fnmatch(plain, pattern)), None)
