"""Dead letters: groups of failed runs, and what is done with a whole group."""

from __future__ import annotations

from typing import cast

from tornado.web import HTTPError

from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.data.dead_letters import (
    Group,
    count_group,
    dead_letter_groups,
    dead_letters,
)
from cgk_tasks.dashboard.data.run_search import Key
from cgk_tasks.dashboard.group_actions import (
    DEFAULT_PACE,
    FASTEST_PACE,
    Kind,
    begin_group_action,
    resume_action,
)
from cgk_tasks.dashboard.pages.page import Page


class DeadLettersPage(Page):
    """The groups."""

    async def get(self) -> None:
        tenant = self.field("tenant")
        self.show("dead_letters.html", groups=await self.run_blocking(dead_letter_groups, tenant), tenant=tenant)


class _GroupPage(Page):
    @property
    def group(self) -> Group:
        """The group that the address or the form names. Raises HTTPError 400."""
        if not (self.field("event") and self.field("fingerprint")):
            raise HTTPError(400, "Choose a group on the page of dead letters.")
        return Group(self.field("event"), self.field("fingerprint"), self.field("tenant"))

    @property
    def kind(self) -> Kind:
        if self.field("kind") not in {"retry", "discard"}:
            raise HTTPError(400, "A group can be retried or discarded.")
        return cast("Kind", self.field("kind"))


class GroupPage(_GroupPage):
    """The runs of a group."""

    async def get(self) -> None:
        letters, following = await self.run_blocking(dead_letters, self.group, Key.parse(self.field("before")))
        runs, tenants = await self.run_blocking(count_group, self.group)
        self.show(
            "dead_letter_group.html", group=self.group, letters=letters, next=following, runs=runs, tenants=tenants
        )


class GroupActionPage(_GroupPage):
    """The dry run of an action on a group, and its start."""

    async def get(self) -> None:
        runs, tenants = await self.run_blocking(count_group, self.group)
        self.show(
            "group_action.html", group=self.group, kind=self.kind, runs=runs, tenants=tenants, pace=DEFAULT_PACE,
            fastest=FASTEST_PACE,
        )  # fmt: skip

    async def post(self) -> None:
        pace = self.whole_number("pace", DEFAULT_PACE)
        number = await self.run_blocking(begin_group_action, self.user, self.group, self.kind, pace)
        self.redirect_to(f"/dead-letters/actions/{number}")


class ActionPage(Page):
    """How far an action on a group has come."""

    async def get(self, number: str) -> None:
        lines = await self.run_blocking(audit.lines, action_id=int(number), limit=1)
        if not lines:
            raise HTTPError(404, f"There is no action {number}.")
        self.show("action.html", line=lines[0])


class ResumeAction(Page):
    """Does the rest of an action whose dashboard is gone."""

    async def post(self, number: str) -> None:
        following = await self.run_blocking(resume_action, self.user, int(number))
        if following is None:
            self.redirect_to(f"/dead-letters/actions/{number}", "There is nothing to resume.")
        else:
            self.redirect_to(f"/dead-letters/actions/{following}")


class AbortAction(Page):
    """Stops it."""

    async def post(self, number: str) -> None:
        with_effect = await self.run_blocking(audit.request_abort, int(number))
        flash = "It stops after the runs it is at." if with_effect else "It had ended before."
        self.redirect_to(f"/dead-letters/actions/{number}", flash)
