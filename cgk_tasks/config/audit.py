"""Settings: who acts, in the audit."""

from __future__ import annotations

from pydantic import BaseModel, Field


class AuditSettings(BaseModel):
    """Audit."""

    actor: str = Field(
        default="",
        description="Who acts, in the audit of changes by command line and Python; empty: the system's user.",
    )
