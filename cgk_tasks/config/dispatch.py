"""Settings: dispatch."""

from __future__ import annotations

from pydantic import AliasChoices, Field, PositiveFloat, PositiveInt

from cgk_tasks.config.concern import Concern


class DispatchSettings(Concern):
    """Dispatch."""

    dispatch_interval_seconds: PositiveFloat = Field(
        default=0.25,
        description="How often the dispatcher looks for what is to be dispatched; with Redis a quarter as often, and "
        "once a second or more, while nothing happens. Runs whose time it knows do not wait for it.",
    )
    dispatch_batch: PositiveInt = Field(default=1000, description="Runs dispatched by one statement.")
    dispatch_patience_seconds: PositiveFloat = Field(
        validation_alias=AliasChoices("CGK_DISPATCH_PATIENCE_SECONDS", "CGK_HAND_OVER_PATIENCE_SECONDS"),
        default=5.0,
        description="How old an unclaimed dispatch must be before it is suspected lost.",
    )
