"""Views of the list of runs: searches that have a name. Some come with the dashboard; others people save, each for
themselves or for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cgk_tasks.dashboard.audit import recorded
from cgk_tasks.dashboard.data.queries import if_migrated
from cgk_tasks.dashboard.roles import User
from cgk_tasks.dashboard.run_query import run_filter
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.sql.postgres import fetch, statements, transaction

SQL = statements("saved_views")

LONGEST_NAME: Final = 60
LONGEST_SEARCH: Final = 1_000
MOST_VIEWS: Final = 50
"""So many a user may have, and so many may be shared."""


@dataclass(frozen=True, slots=True)
class View:
    """A search with a name. id: None for one that comes with the dashboard. is_shared: whether all see it."""

    name: str
    search: str
    id: int | None = None
    is_shared: bool = True
    created_by: str = ""


def built_in(now: datetime) -> list[View]:
    """Those that come with the dashboard. now: of which day the failures are, which begins at midnight UTC."""
    return [
        View("Failed today", f"state:failed closed-since:{now.astimezone(UTC):%Y-%m-%d}"),
        View("Waiting for long", "state:waiting until:10m"),
        View("Running now", "state:running"),
        View("Dead letters of the last hour", "state:failed closed-since:1h"),
    ]


def saved_views(user: User) -> list[View] | None:
    """Those that are shared, and then the user's own, by name. None before `cgk-tasks migrate`, which makes the
    table.
    """
    rows = if_migrated(lambda connection: fetch(connection, SQL["saved_views"], {"user": user.name}))
    return None if rows is None else [View(**row) for row in rows]


def save_view(user: User, name: str, search: str, *, shared: bool = False) -> str:
    """Keep a search under a name, in place of an earlier one of the same name. Returns the name.

    Raises SearchError, InvalidOptionError.
    """
    name, search = " ".join(name.split()), search.strip()
    with recorded(user, "save view", subject=name[:LONGEST_NAME], details=_details(search, shared=shared)) as entry:
        _check(name, search)
        values = {"owner": "" if shared else user.name, "name": name, "search": search, "user": user.name}
        with transaction() as connection:
            if not fetch(connection, SQL["save_view"], values | {"most": MOST_VIEWS}):
                raise InvalidOptionError(
                    "name", f"there are {MOST_VIEWS} {'shared views' if shared else 'views of yours'} already",
                    hint="Delete one that nobody needs.",
                )  # fmt: skip
        entry.affected = 1
    return name


def delete_view(user: User, view_id: int) -> str | None:
    """Remove a shared view or one of the user's own. Returns its name; None if there is none of this id."""
    with recorded(user, "delete view", subject=str(view_id)) as entry:
        with transaction() as connection:
            rows = fetch(connection, SQL["delete_view"], {"id": view_id, "user": user.name})
        if not rows:
            entry.message = "there was none"
            return None
        entry.affected, entry.message = 1, rows[0]["name"] + (", shared" if rows[0]["is_shared"] else "")
        return str(rows[0]["name"])


def _details(search: str, *, shared: bool) -> dict[str, object]:
    return {"search": search[:LONGEST_SEARCH], "shared": shared}


def _check(name: str, search: str) -> None:
    if not (name and name.isprintable() and len(name) <= LONGEST_NAME):
        raise InvalidOptionError("name", f"must be 1 to {LONGEST_NAME} printable characters")
    if len(search) > LONGEST_SEARCH:
        raise InvalidOptionError("q", f"must be at most {LONGEST_SEARCH:,} characters long")
    run_filter(search, datetime.now(UTC))
