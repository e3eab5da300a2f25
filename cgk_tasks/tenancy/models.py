"""The tenant: a customer of the product, as an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cgk_tasks.config import Isolation

TenantState = Literal["active", "suspended"]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant as the registry knows it. `role_name` is set when isolation is `role` or `rls`."""

    id: str
    status: TenantState
    isolation: Isolation
    schema_name: str
    role_name: str | None = None
