"""Saving a search of runs under a name, and deleting one."""

from __future__ import annotations

from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.saved_views import delete_view, save_view


class SaveView(Page):
    """Keeps the search, for the user or for all."""

    async def post(self) -> None:
        search, is_shared = self.field("q"), self.field("shared") == "1"
        name = await self.run_blocking(save_view, self.user, self.field("name"), search, shared=is_shared)
        self.redirect_to("/runs", f"The view {name} is saved{' for all' if is_shared else ''}.", q=search)


class DeleteView(Page):
    """Removes a view."""

    async def post(self, number: str) -> None:
        name = await self.run_blocking(delete_view, self.user, int(number))
        said = "There is no such view any more." if name is None else f"The view {name} is deleted."
        self.redirect_to("/runs", said, q=self.field("q"))
