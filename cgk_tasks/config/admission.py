"""Settings: admission."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import Names


class AdmissionSettings(Concern):
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
    quarantine: bool = Field(
        default=False,
        description="Pause a tenant on its error budget: when too many of its last runs failed.",
    )
    quarantine_failed_share: PositiveFloat = Field(
        default=0.5, le=1, description="Of a tenant's runs that closed in the time, so many must have failed."
    )
    quarantine_runs: PositiveInt = Field(default=100, description="So many must have closed, at least.")
    quarantine_window_seconds: PositiveFloat = Field(
        default=300.0, description="The time in which a tenant's runs are counted."
    )
    quarantine_release_seconds: NonNegativeFloat = Field(
        default=900.0, description="After so long a quarantine ends by itself; 0: only when somebody ends it."
    )
    quarantine_paced_seconds: NonNegativeFloat = Field(
        default=300.0, description="For so long after it the tenant has a tenth of its weight."
    )
