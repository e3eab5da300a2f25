"""The audit."""

from __future__ import annotations

from cgk_tasks.monitoring.dashboard import audit
from cgk_tasks.monitoring.dashboard.pages.page import Page


class AuditPage(Page):
    """Who did what, the newest first."""

    async def get(self) -> None:
        lines = await self.ask(audit.lines, before=self.whole_number("before", 0) or None)
        following = lines[-1].id if len(lines) == audit.PAGE_SIZE else None
        self.show("audit.html", lines=lines, next=following)
