"""The known name that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHORTEST_PART = 3


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or the shortest one that contains it (`nightly` for `ab.nightlyRollup`)."""
    spellings = {one.casefold(): one for one in known}
    wanted = name.casefold()
    near = get_close_matches(wanted, spellings, n=1)
    if near:
        return spellings[near[0]]
    if len(wanted) < _SHORTEST_PART:
        return None
    containing = [spelling for spelling in spellings if wanted in spelling]
    return spellings[min(containing, key=len)] if containing else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with a space before it, or nothing."""
    near = nearest(name, known)
    return f' Did you mean "{near}"?' if near else ""
