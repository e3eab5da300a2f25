"""The dry run of an action on all runs that match a search, and its start."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast, get_args

from tornado.web import HTTPError

from cgk_tasks.dashboard.data.matches import SAMPLE_SIZE, Kind
from cgk_tasks.dashboard.long_actions import DEFAULT_PACE, FASTEST_PACE, LEFT_ALONE
from cgk_tasks.dashboard.match_actions import EVERY_RUN, begin_match_action, needs_confirmation, plan_of
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.roles import Role


class MatchActionPage(Page):
    """What would happen to which runs; and, with a pace, its start."""

    role_to_look: Role = "operator"

    @property
    def kind(self) -> Kind:
        if self.field("do") not in get_args(Kind):
            raise HTTPError(400, "Runs that match can be retried, cancelled or replayed.")
        return cast("Kind", self.field("do"))

    async def get(self) -> None:
        kind, search, of_all = self.kind, self.field("q"), self.field("count") == "all"
        plan, now = await self.run_blocking(plan_of, kind, search, of_all=of_all)
        self.show(
            "match_action.html", kind=kind, search=search, plan=plan, planned=now.isoformat(), pace=DEFAULT_PACE,
            fastest=FASTEST_PACE, reasons=LEFT_ALONE, every_run=needs_confirmation(search) and EVERY_RUN,
            of_all=of_all, sample_size=SAMPLE_SIZE,
        )  # fmt: skip

    async def post(self) -> None:
        number = await self.run_blocking(
            begin_match_action, self.user, self.kind, self.field("q"), self.whole_number("pace", DEFAULT_PACE),
            planned=_moment(self.field("planned")), typed=self.field("confirm"),
        )  # fmt: skip
        self.redirect_to(f"/actions/{number}")


def _moment(text: str) -> datetime | None:
    """A time as the form has it. None for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
