"""What jobs print, as lines of the log: as in Celery, and with the run that printed them."""

from __future__ import annotations

import logging
import sys
from typing import Final

from celery.utils.log import LoggingProxy, mlevel

from cgk_tasks.runs import logs

_LONGEST: Final = 8192


class PrintedLines(LoggingProxy):
    """In place of stdout and stderr: each line that is written is logged. Celery's logs each argument of a `print`.

    The beginning of a line stays with the run that wrote it, until the line or the run ends.
    """

    printed = ""

    def write(self, data: str) -> int:  # type: ignore[override]  # celery-types has not what it returns
        place = logs.current.get() or self
        *lines, place.printed = (place.printed + data).split("\n")
        for line in lines:
            super().write(line)
        if len(place.printed) > _LONGEST:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Log what was written of a line that has not ended."""
        place = logs.current.get() or self
        begun, place.printed = place.printed, ""
        super().write(begun)


def log_what_is_printed(level: str) -> None:
    """From now on, in this process and those that it forks."""
    sys.stdout = sys.stderr = PrintedLines(logging.getLogger("celery.redirected"), mlevel(level))
