"""Settings: who acts, in the audit."""

from __future__ import annotations

from pydantic import Field

from cgk_tasks.config.concern import Concern


class AuditSettings(Concern):
    """Audit."""

    actor: str = Field(
        default="",
        description="Who acts, in the audit of changes by command line and Python; empty: the system's user.",
    )
