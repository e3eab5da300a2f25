"""Login by password, and logout."""

from __future__ import annotations

import math
from typing import ClassVar

from cgk_tasks.dashboard.access.authentication import TooManyLoginsError
from cgk_tasks.dashboard.access.login_redirect import is_of_this_site
from cgk_tasks.dashboard.display import namespace
from cgk_tasks.dashboard.pages.page import Page


class LoginPage(Page):
    """Name and password. The only page of ours that needs no login."""

    SUPPORTED_METHODS: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "POST")  # type: ignore[misc]

    async def prepare(self) -> None:
        self.current_user = None

    async def get(self) -> None:
        await self._form()

    async def post(self) -> None:
        name, password = self.field("name"), self.get_argument("password", "", strip=False)
        try:
            account = await self.authentication.log_in(name, password, str(self.request.remote_ip))
        except TooManyLoginsError as exc:
            self.set_status(429)
            self.set_header("Retry-After", str(math.ceil(exc.wait_seconds)))
            await self._form(exc.log_message or "")
            return
        if account is None:
            self.set_status(401)
            await self._form("Name or password is wrong.")
            return
        await self.authentication.start_session(self, account.name, account)
        self.redirect(self._next(), status=303)

    def _next(self) -> str:
        """Where the login came from: a path of this site, nothing else."""
        wanted = self.get_argument("next", "")
        return wanted if is_of_this_site(wanted) else namespace(self)["url"]("/overview")

    async def _form(self, problem: str = "") -> None:
        has_users = self.authentication.method != "users" or await self.run_blocking(self.authentication.has_users)
        self.show("login.html", problem=problem, next=self._next(), has_users=has_users)


class LogoutPage(Page):
    """A button, because a link could be followed by anything."""

    role_to_change = "viewer"

    def get(self) -> None:
        self.show("logout.html")

    async def post(self) -> None:
        await self.authentication.end_session(self)
        self.current_user = None
        self.show("logout.html")
