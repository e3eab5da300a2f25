"""Settings: admission."""

from __future__ import annotations

from pydantic import BaseModel, Field, NonNegativeFloat, PositiveFloat

from cgk_tasks.config.kinds import Names


class AdmissionSettings(BaseModel):
    """Admission."""

    admit_interval_seconds: PositiveFloat = Field(
        default=0.025, description="How often the leader looks whose runs may start, while runs wait for that."
    )
    window_seconds: PositiveFloat = Field(
        default=0.5,
        description="How much work may be in a queue's broker list ahead of its workers. The rest waits in lanes, "
        "where its order can still change.",
    )
    fair_queues: Names = Field(
        default=("*",),
        description="Queues in which tenants get equal shares of the run time while more waits than the window holds; "
        "separated by commas, * for all, empty for none.",
    )
    rules_refresh_seconds: PositiveFloat = Field(
        default=2.0,
        description="After how long at most workers and senders know of limits and pauses that were set meanwhile.",
    )
    priority_step_seconds: NonNegativeFloat = Field(
        default=60.0,
        description="By how much a run of one priority more comes before the others of its tenant: as if it had "
        "been due so much earlier.",
    )
