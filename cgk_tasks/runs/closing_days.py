"""When a run can have closed, as far as its id tells: so a look for it spares the partitions of all other days.

The ids that we make say when that was, and no run closes before. They say it by the clock of whoever made them, so an
hour more is looked at, and what is not found there is looked for in all the days.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from cgk_tasks.sql.clock import known_now

ANY_DAY: Final[Mapping[str, str]] = {"since": "-infinity", "until": "infinity"}
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_LATEST_MILLISECONDS: Final = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1000)


def closing_days(run_id: str) -> Mapping[str, str]:
    """The values `since` and `until` of a statement that looks for a run of this id in the history."""
    try:
        made = UUID(run_id)
    except ValueError:  # PostgreSQL says what is wrong with it
        return ANY_DAY
    milliseconds = made.int >> 80
    if made.version != 7 or milliseconds > _LATEST_MILLISECONDS:
        return ANY_DAY
    since = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return {"since": (since - _CLOCKS_DIFFER).isoformat(), "until": (known_now() + _CLOCKS_DIFFER).isoformat()}
