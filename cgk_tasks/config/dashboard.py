"""Settings: dashboard."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import Names


class DashboardSettings(Concern):
    """Dashboard."""

    environment: str = Field(
        default="",
        description="The name of this installation, such as staging, in the bar of every page of the dashboard. With "
        "`production` it stands out, and whoever sends a job from the dashboard confirms it.",
    )
    dashboard_users_file: Path = Field(
        default=Path(".cgk/dashboard-users.json"),
        description="Deprecated: users of the dashboard are in PostgreSQL. A file of before still counts, until "
        "`cgk-tasks dashboard user import FILE`.",
    )
    dashboard_roles: Names = Field(
        default=(),
        description="Deprecated: roles are in PostgreSQL, as from `cgk-tasks dashboard user add '*@example.com' "
        "--role viewer --no-password`. Rules of before still count, after those.",
    )
    dashboard_trusted_proxies: Names = Field(
        default=(),
        description="Addresses and networks of the proxies before the dashboard, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed; `unix` for those at --unix_socket; separated by commas.",
    )
    dashboard_open_on_loopback: bool = Field(
        default=False,
        description="No login where the dashboard listens on 127.0.0.1 only: everybody on the machine is admin.",
    )
    dashboard_show_sensitive: bool = Field(
        default=False, description="Admins may see personal data in payloads; each look is in the audit."
    )

    @property
    def is_production(self) -> bool:
        return self.environment.strip().lower() == "production"
