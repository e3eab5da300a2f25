"""What a worker has said of itself on record, so that it need not say the same again with each heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_AGAIN_SECONDS: Final = 60.0
"""What was said is said again after such a time: somebody else may have changed or removed it."""


class Notes:
    """Of one worker, by subject. clock: of which only differences count, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, tuple[object, float]] = {}

    def say(self, subject: str, said: object, say: Callable[[], object]) -> None:
        """Call `say`, unless the same was said of the subject within the last minute. What it raises was not said."""
        if self.is_due(subject, said):
            self.forget(subject)
            say()
            self.note(subject, said)

    def is_due(self, subject: str, said: object) -> bool:
        """Whether this has to be said of the subject."""
        known = self._said.get(subject)
        return known is None or known[0] != said or self._clock() - known[1] >= _AGAIN_SECONDS

    def note(self, subject: str, said: object) -> None:
        """It has been said."""
        self._said[subject] = said, self._clock()

    def forget(self, subject: str | None = None) -> None:
        """All of it, or what was said of the subject, has to be said again."""
        if subject is None:
            self._said.clear()
        else:
            self._said.pop(subject, None)
