"""Settings: tenants."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import Isolation


class TenantSettings(Concern):
    """Tenants."""

    tenant_isolation: Isolation = Field(
        default="role", description="How tenants added from now on are kept apart in the database."
    )
    tenant_schema: str = Field(default="tenant_{id}", description="Schema of a tenant that names none.")
    tenants_query: str | None = Field(
        default=None,
        description="SQL that lists the active tenants of the platform: one column (id) or two (id, schema).",
    )
    tenants_refresh_seconds: PositiveFloat = Field(
        default=10.0, description="How long a process trusts what it knows about a tenant."
    )
    tenant_setup: str | None = Field(
        default=None,
        description="module:function called by `tenants add` and `tenants migrate` with the tenant and a "
        "connection in its schema.",
    )
    storage_root: Path = Field(default=Path(".cgk/storage"), description="Parent folder of the tenants' files.")
