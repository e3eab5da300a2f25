"""How often something is done that may last the longer, the more PostgreSQL has to keep.

While somebody's transaction is open, a backup for example, PostgreSQL keeps all rows that have been changed since, and
their places in its indexes. Whoever looks for what is left of a backlog goes through all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_APART: Final = 4
"""Pauses are so many times as long as what was done before them: it takes a fifth of the time at most."""
_LONGEST_PAUSE_SECONDS: Final = 10.0


class DutyCycle:
    """When it is time again, by how long the last time took."""

    def __init__(self) -> None:
        self._next_at = float("-inf")

    @property
    def is_time(self) -> bool:
        return time.monotonic() >= self._next_at

    @contextmanager
    def measured(self) -> Iterator[None]:
        """What is done in the block is what is spared."""
        begun = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            self._next_at = now + min(_APART * (now - begun), _LONGEST_PAUSE_SECONDS)
