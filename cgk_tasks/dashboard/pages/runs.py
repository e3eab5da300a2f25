"""The list of runs: a search, its matches by state, and what is done with those that are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from tornado.web import HTTPError

from cgk_tasks.dashboard.data.run_search import LOOKED_AT, MOST_COUNTED, Key, RunFilter, count_states, find_runs
from cgk_tasks.dashboard.data.tenants import tenant_ids
from cgk_tasks.dashboard.live_marks import mark_of_list
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.run_csv import HEADER, csv_lines
from cgk_tasks.dashboard.run_query import TERMS, only_id, run_filter, search_text, suggestions, with_state
from cgk_tasks.dashboard.saved_views import LONGEST_NAME, built_in, saved_views
from cgk_tasks.dashboard.search_syntax import SearchError
from cgk_tasks.dashboard.selected_runs import MOST_SELECTED, on_selected

SPANS: Final = {
    "1h": ("last hour", 1),
    "24h": ("last 24 hours", 24),
    "7d": ("last 7 days", 168),
    "30d": ("last 30 days", 720),
}
_OLDER_FIELDS: Final = ("tenant", "event", "job", "state", "error", "text", "within", "since", "until")
_ROWS_AT_ONCE: Final = 1_000


class _SearchPage(Page):
    """A page that has a search in its address, `q`. What earlier releases had in fields of their own is part of it."""

    @property
    def search(self) -> str:
        older: Mapping[str, str] = {name: self.field(name) for name in _OLDER_FIELDS}
        return search_text(self.field("q"), older)


class RunsPage(_SearchPage):
    """A page of runs, and how many of each state match."""

    async def get(self) -> None:
        if run_id := only_id(self.search):
            self.redirect_to(f"/runs/{run_id}")
            return
        tenants = await self.run_blocking(tenant_ids)
        now, saved = datetime.now(UTC), await self.run_blocking(saved_views, self.user)
        common = {
            "views": [*built_in(now), *(saved or ())], "can_save": saved is not None, "longest_name": LONGEST_NAME,
            "search": self.search, "terms": TERMS, "suggested": suggestions(tenants), "most_counted": MOST_COUNTED,
            "with_state": with_state, "is_first": not self.field("before"), "is_live": self.field("live") != "0",
        }  # fmt: skip
        try:
            wanted = run_filter(self.search, now)
        except SearchError as exc:
            self.set_status(400)
            self.show("runs.html", page=None, counts={}, problem=exc, wanted=RunFilter(), **common)
            return
        page = await self.run_blocking(find_runs, wanted, Key.parse(self.field("before")), look_at=LOOKED_AT)
        counts = await self.run_blocking(count_states, wanted)
        self.show(
            "runs.html", page=page, counts=counts, problem=None, wanted=wanted, seen=mark_of_list(page.runs), **common
        )


class RunsFile(_SearchPage):
    """All runs that match, as CSV, without their payloads. Written as they are read."""

    async def get(self) -> None:
        wanted = run_filter(self.search, datetime.now(UTC))
        # What is sent meanwhile is not part of it.
        wanted = replace(wanted, until=wanted.until or datetime.now(UTC))
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", 'attachment; filename="runs.csv"')
        self.write(HEADER)
        before: Key | None = None
        while True:
            page = await self.run_blocking(find_runs, wanted, before, _ROWS_AT_ONCE, look_at=LOOKED_AT)
            self.write(csv_lines(page.runs))
            await self.flush()
            if page.next is None:
                return
            before = page.next


class SelectedRuns(_SearchPage):
    """Retries or cancels the runs that were chosen in the list."""

    async def post(self) -> None:
        kind, ids = self.field("do"), self.get_arguments("id")
        if kind not in {"retry", "cancel"}:
            raise HTTPError(400, "Chosen runs can be retried or cancelled.")
        if not 0 < len(ids) <= MOST_SELECTED:
            raise HTTPError(400, f"Choose 1 to {MOST_SELECTED} runs, not {len(ids)}.")
        said = await self.run_blocking(on_selected, self.user, kind, ids)
        self.redirect_to("/runs", said, q=self.search)
