"""Settings: secrets."""

from __future__ import annotations

from pydantic import Field

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import Keys


class SecretSettings(Concern):
    """Secrets."""

    encryption_keys: Keys = Field(
        default=(),
        description="What tenants' credentials and webhook secrets are encrypted with, made by `cgk-tasks "
        "secrets key`; "
        "separated by commas, the newest first.",
    )
