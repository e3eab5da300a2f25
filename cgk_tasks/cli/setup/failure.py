"""How the set-up ends when it does not succeed: an exit code for scripts, and what to do."""

from __future__ import annotations

from typing import Final

from cgk_tasks.errors import CgkTasksError

SETTING: Final = 3
"""A setting is missing or wrong, and nobody could be asked."""
SERVER: Final = 4
"""PostgreSQL or the broker cannot be used: not reached, password refused, too old, not migrated."""
TRIAL: Final = 5
"""Everything is set, but the test event's run did not complete."""
INTERRUPTED: Final = 130
"""Ctrl-C, as shells report it."""


class SetupFailure(CgkTasksError):  # noqa: N818 - never leaves the command
    """The set-up cannot go on. The text says what is wrong, and what to do."""

    code = "SETUP_FAILED"

    def __init__(self, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code
