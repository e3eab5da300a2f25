"""The audit."""

from __future__ import annotations

from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.pages.page import Page


class AuditPage(Page):
    """Who did what, the newest first."""

    async def get(self) -> None:
        lines = await self.run_blocking(audit.lines, before=self.whole_number("before", 0) or None)
        following = lines[-1].id if len(lines) == audit.PAGE_SIZE else None
        self.show("audit.html", lines=lines, next=following, is_first=not self.field("before"))
