"""Tenants: who has how much open, who fails, what each may; suspend and resume."""

from __future__ import annotations

from cgk_tasks.dashboard import actions
from cgk_tasks.dashboard.data.lanes import COUNT_TO
from cgk_tasks.dashboard.data.tenant_limits import tenant_view
from cgk_tasks.dashboard.data.tenants import PAGE_SIZE, tenant_counts
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.pages.runs import SPANS


class TenantsPage(Page):
    """The busiest tenants first, or all by id."""

    async def get(self) -> None:
        within = self.field("within") if self.field("within") in SPANS else "24h"
        busiest = self.field("order") != "id"
        tenants = await self.run_blocking(
            tenant_counts, hours=SPANS[within][1], starts_with=self.field("id"), after=self.field("after"),
            busiest=busiest,
        )  # fmt: skip
        following = tenants[-1].id if not busiest and len(tenants) == PAGE_SIZE else ""
        self.show(
            "tenants.html", tenants=tenants, within=within, spans=SPANS, busiest=busiest, starts_with=self.field("id"),
            following=following, page_size=PAGE_SIZE,
        )  # fmt: skip


class TenantPage(Page):
    """What one tenant may, what of it waits where, what is paused, its API keys, and what it used."""

    async def get(self, tenant_id: str) -> None:
        view = await self.run_blocking(tenant_view, tenant_id)
        self.show("tenant.html", tenant=tenant_id, view=view, count_to=COUNT_TO)


class SuspendTenant(Page):
    """Holds a tenant's runs."""

    async def post(self, tenant_id: str) -> None:
        await self.run_blocking(actions.suspend_tenant, self.user, tenant_id)
        self.redirect_to(
            "/tenants", f"{tenant_id} is suspended: nothing of it starts; what is sent waits.", id=tenant_id
        )


class ResumeTenant(Page):
    """Lets a tenant's runs go on."""

    async def post(self, tenant_id: str) -> None:
        await self.run_blocking(actions.resume_tenant, self.user, tenant_id)
        self.redirect_to(
            "/tenants", f"{tenant_id} is active again: what was held is released within a second or two.", id=tenant_id
        )


class EndQuarantine(Page):
    """Lets the runs of a tenant in quarantine go on."""

    async def post(self, tenant_id: str) -> None:
        ended = await self.run_blocking(actions.end_quarantine, self.user, tenant_id, self.field("reason"))
        said = "its runs go on, at a tenth of its weight at first." if ended else "it was over already."
        self.redirect_to(f"/tenants/{tenant_id}", f"The quarantine of {tenant_id} has ended: {said}")
