"""The list of runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, get_args

from tornado.web import HTTPError

from cgk_tasks.dashboard.data.run_search import Key, RunFilter, as_state, count_open, find_runs
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.runs.models import State

SPANS: Final = {
    "1h": ("last hour", 1),
    "24h": ("last 24 hours", 24),
    "7d": ("last 7 days", 168),
    "30d": ("last 30 days", 720),
}


class RunsPage(Page):
    """Filters, a page of runs, and how many are open."""

    async def get(self) -> None:
        wanted = self._wanted()
        page = await self.run_blocking(find_runs, wanted, Key.parse(self.field("before")))
        counts = await self.run_blocking(count_open)
        query = {
            name: self.field(name)
            for name in ("tenant", "event", "job", "state", "error", "text", "within", "since", "until")
        }
        self.show(
            "runs.html", page=page, counts=counts, query=query, states=get_args(State), spans=SPANS,
            is_first=not self.field("before"), is_live=self.field("live") != "0",
        )  # fmt: skip

    def _wanted(self) -> RunFilter:
        state = self.field("state")
        if state and as_state(state) is None:
            raise HTTPError(400, f"There is no state {state[:40]!r}. There are: {', '.join(get_args(State))}.")
        within = self.field("within")
        since = datetime.now(UTC) - timedelta(hours=SPANS[within][1]) if within in SPANS else self._time("since")
        return RunFilter(
            tenant_id=self.field("tenant"), event=self.field("event"), job=self.field("job"), state=as_state(state),
            error_code=self.field("error"), text=self.field("text"), since=since, until=self._time("until"),
        )  # fmt: skip

    def _time(self, name: str) -> datetime | None:
        """A time as browsers write it in a form, in UTC unless it says otherwise."""
        text = self.field(name)
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise HTTPError(400, f"{name} must be a time like 2026-03-01T09:00, not {text[:40]!r}") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
