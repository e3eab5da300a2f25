"""The first page: everything at a glance, and the way to each list."""

from __future__ import annotations

from cgk_tasks.dashboard.data.dead_letters import MOST_COUNTED
from cgk_tasks.dashboard.data.overview import SPANS, overview
from cgk_tasks.dashboard.live_marks import Topic, mark_of
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.tenancy import registry


class OverviewPage(Page):
    """Runs and queues over an hour, a day or a week, of all tenants or of one."""

    async def get(self) -> None:
        chosen = self.field("span") if self.field("span") in SPANS else "1h"
        tenant = self.field("tenant")
        if tenant:
            await self.run_blocking(registry.require, tenant)
        seen = await self.run_blocking(mark_of, Topic("overview"))
        view = await self.run_blocking(overview, SPANS[chosen], tenant)
        self.show(
            "overview.html", view=view, spans=SPANS, chosen=chosen, tenant=tenant, most_counted=MOST_COUNTED,
            is_live=self.field("live") != "0", seen=seen,
        )  # fmt: skip
