"""The API keys of a tenant: make, rotate, revoke. They are listed on the tenant's page."""

from __future__ import annotations

from tornado.web import HTTPError

from cgk_tasks.api_keys.keys import ApiKey
from cgk_tasks.dashboard import key_actions
from cgk_tasks.dashboard.pages.page import Page


class _NewKey(Page):
    """Whoever has a key may do what its scopes say, such as read payloads, so making one is for admins."""

    role_to_change = "admin"

    def show_new(self, tenant_id: str, key: ApiKey) -> None:
        """The answer to the form itself, since what is shown once must not be kept for another page."""
        assert key.secret is not None
        self.show("new_key.html", tenant=tenant_id, key=key, secret=key.secret.get_secret_value())

    def amount(self, name: str, default: int, most: int) -> int:
        """A number of days or hours. Raises HTTPError 400."""
        number = self.whole_number(name, default)
        if not 0 <= number <= most:
            raise HTTPError(400, f"{name} must be from 0 to {most}, not {number}")
        return number


class MakeKey(_NewKey):
    """Makes a key, and shows it."""

    async def post(self, tenant_id: str) -> None:
        made = await self.run_blocking(
            key_actions.make, self.user, tenant_id, self.field("scopes"), name=self.field("name"),
            days=self.amount("days", 90, 36_500),
        )  # fmt: skip
        self.show_new(tenant_id, made)


class RotateKey(_NewKey):
    """Makes a key in place of another, and shows it."""

    async def post(self, tenant_id: str, key_id: str) -> None:
        hours = self.amount("keep_hours", 24, 24 * 365)
        made = await self.run_blocking(key_actions.rotate, self.user, tenant_id, key_id, keep_hours=hours)
        self.show_new(tenant_id, made)


class RevokeKey(Page):
    """Ends a key. An operator may, who sees it misused and cannot wait for an admin."""

    async def post(self, tenant_id: str, key_id: str) -> None:
        key = await self.run_blocking(key_actions.revoke, self.user, tenant_id, key_id)
        self.redirect_to(f"/tenants/{tenant_id}", f"The key {key.prefix} is revoked: requests with it are refused.")
