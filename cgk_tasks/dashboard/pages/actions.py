"""Actions on many runs: how far one has come, and the buttons that stop it and resume it."""

from __future__ import annotations

from tornado.web import HTTPError

from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.live_marks import Topic, mark_of
from cgk_tasks.dashboard.long_actions import LEFT_ALONE
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.resumed_actions import resume_action


class ActionPage(Page):
    """How far an action has come."""

    async def get(self, number: str) -> None:
        topic = Topic("action", str(int(number)))
        seen = await self.run_blocking(mark_of, topic)
        lines = await self.run_blocking(audit.lines, action_id=int(number), limit=1)
        if not lines or lines[0].expected is None:
            raise HTTPError(404, f"There is no action {number} on many runs.")
        self.show("action.html", line=lines[0], reasons=LEFT_ALONE, seen=seen)


class ResumeAction(Page):
    """Does the rest of an action whose dashboard is gone."""

    async def post(self, number: str) -> None:
        following = await self.run_blocking(resume_action, self.user, int(number))
        if following is None:
            self.redirect_to(f"/actions/{number}", "There is nothing to resume.")
        else:
            self.redirect_to(f"/actions/{following}")


class AbortAction(Page):
    """Stops it."""

    async def post(self, number: str) -> None:
        with_effect = await self.run_blocking(audit.request_abort, int(number))
        flash = "It stops after the runs it is at." if with_effect else "It had ended before."
        self.redirect_to(f"/actions/{number}", flash)
