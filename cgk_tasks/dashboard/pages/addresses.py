"""What is at addresses that no page has: files, the first page, liveness, old addresses, and nothing."""

from __future__ import annotations

import re

from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from cgk_tasks.dashboard.pages.page import Page


class Unknown(Page):
    """Every other address, for those who are logged in."""

    role_to_change = "viewer"

    def check_xsrf_cookie(self) -> None:
        """Nothing can be changed here."""

    async def prepare(self) -> None:
        await super().prepare()
        if self.current_user is not None:
            raise HTTPError(404)


class Moved(RequestHandler):
    """An address of earlier releases. `old`: a pattern of paths; `new`: what `re.sub` makes of them.

    Whatever was to be done there is asked for again at the new address, whose handler authorizes it.
    """

    def initialize(self, old: str, new: str) -> None:
        self._old, self._new = old, new

    def check_xsrf_cookie(self) -> None:
        """Nothing is changed here."""

    def prepare(self) -> None:
        self.set_header("Cache-Control", "no-store")  # whoever goes back to an earlier release finds the page there
        path = re.sub(self._old, self._new, self.request.path)
        self.redirect(f"{path}?{self.request.query}" if self.request.query else path, status=308)


class FirstPage(Page):
    """The overview."""

    def get(self) -> None:
        self.redirect_to("/overview")


class Health(RequestHandler):
    """Whether the process lives, for everybody."""

    def get(self) -> None:
        self.write("OK")


class StaticFile(Page, StaticFileHandler):
    """Styles, scripts and the icon, for everybody."""

    async def prepare(self) -> None:
        self.current_user = None
