"""Which of Celery's tests pass on plain Celery: passing_on_plain_celery.txt, for one version of Celery.

So the tests run our side alone. The list is made anew with `python -m tests.celery_suite --write`.
"""

import importlib.metadata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.celery_suite.sides import Result

FILE = Path(__file__).parent / "passing_on_plain_celery.txt"
_TITLE = "# What passes on plain Celery {version}, after the seconds that it takes. "
_MADE_BY = "Made by: python -m tests.celery_suite --write\n"


def _title() -> str:
    return _TITLE.format(version=importlib.metadata.version("celery"))


@cache
def _seconds() -> dict[str, float]:
    lines = FILE.read_text().splitlines() if FILE.exists() else ()
    return {
        name: float(seconds) for seconds, _, name in (line.partition(" ") for line in lines if not line.startswith("#"))
    }


def seconds_of(test: str) -> float:
    """How long a test took when the list was made; 0 if it is not in it."""
    return _seconds().get(test, 0.0)


def passing() -> set[str] | None:
    """The tests; None if the list is about another version than the one that is installed."""
    is_current = FILE.exists() and FILE.read_text().startswith(_title())
    return set(_seconds()) if is_current else None


def write(plain: "Mapping[str, Result]") -> None:
    """Make the list anew."""
    passed = sorted((name, result.seconds) for name, result in plain.items() if result.outcome == "passed")
    FILE.write_text(_title() + _MADE_BY + "".join(f"{seconds:.1f} {name}\n" for name, seconds in passed))
    _seconds.cache_clear()
