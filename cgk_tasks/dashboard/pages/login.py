"""Login and logout, with the file of users."""

from __future__ import annotations

from typing import ClassVar

from cgk_tasks.dashboard.access.authentication import SESSION_COOKIE
from cgk_tasks.dashboard.access.login_redirect import is_of_this_site
from cgk_tasks.dashboard.display import namespace
from cgk_tasks.dashboard.pages.page import Page


class LoginPage(Page):
    """Name and password. The only page of ours that needs no login."""

    SUPPORTED_METHODS: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "POST")  # type: ignore[misc]

    async def prepare(self) -> None:
        self.current_user = None

    def get(self) -> None:
        self._form()

    async def post(self) -> None:
        name, password = self.field("name"), self.get_argument("password", "", strip=False)
        address = str(self.request.remote_ip)
        wait = self.authentication.login_limiter.wait_seconds(f"name {name}", f"address {address}")
        if wait:
            self.set_status(429)
            self._form(f"Too many failed logins. Try again in {wait:.0f} s.")
            return
        user = await self.run_blocking(self.authentication.log_in, name, password, address)
        if user is None:
            self.set_status(401)
            self._form("Name or password is wrong.")
            return
        self.authentication.open_session(self, user)
        self.redirect(self._next(), status=303)

    def _next(self) -> str:
        """Where the login came from: a path of this site, nothing else."""
        wanted = self.get_argument("next", "")
        return wanted if is_of_this_site(wanted) else namespace(self)["url"]("/runs")

    def _form(self, problem: str = "") -> None:
        has_users = self.authentication.method != "users" or bool(self.authentication.users.users())
        self.show(
            "login.html", problem=problem, next=self._next(), has_users=has_users, file=self.authentication.users.path,
        )  # fmt: skip


class LogoutPage(Page):
    """A button, because a link could be followed by anything."""

    role_to_change = "viewer"

    def get(self) -> None:
        self.show("logout.html")

    def post(self) -> None:
        self.clear_cookie(SESSION_COOKIE)
        self.clear_cookie("user")
        self.redirect(namespace(self)["url"]("/login"), status=303)
