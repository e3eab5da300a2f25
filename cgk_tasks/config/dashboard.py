"""Settings: dashboard."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from cgk_tasks.config.kinds import Names


class DashboardSettings(BaseModel):
    """Dashboard."""

    dashboard_users_file: Path = Field(
        default=Path(".cgk/dashboard-users.json"),
        description="Who may log in to the dashboard; written by `cgk-tasks dashboard user add`.",
    )
    dashboard_roles: Names = Field(
        default=(),
        description="Roles of those who log in by Flower's own ways (OAuth, --basic_auth), as "
        "ada@example.com=admin,*@example.com=viewer; the first that fits. Others are viewers.",
    )
    dashboard_open_on_loopback: bool = Field(
        default=False,
        description="No login where the dashboard listens on 127.0.0.1 only: everybody on the machine is admin.",
    )
    dashboard_show_sensitive: bool = Field(
        default=False, description="Admins may see personal data in payloads; each look is in the audit."
    )
