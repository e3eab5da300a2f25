"""Dead letters: groups of failed runs, and what is done with a whole group."""

from __future__ import annotations

from typing import cast

from tornado.web import HTTPError

from cgk_tasks.dashboard.data.dead_letters import (
    Group,
    count_group,
    dead_letter_groups,
    dead_letters,
)
from cgk_tasks.dashboard.data.run_search import Key
from cgk_tasks.dashboard.group_actions import Kind, begin_group_action
from cgk_tasks.dashboard.long_actions import DEFAULT_PACE, FASTEST_PACE
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
        self.redirect_to(f"/actions/{number}")
