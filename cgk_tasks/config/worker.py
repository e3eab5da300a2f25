"""Settings: workers and recovery."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from cgk_tasks.config.concern import Concern


class WorkerSettings(Concern):
    """Workers and recovery."""

    heartbeat_seconds: PositiveFloat = Field(default=5.0, description="Interval of a worker's heartbeat.")
    worker_timeout_seconds: PositiveFloat = Field(
        default=30.0, description="Silence after which a worker counts as dead and its runs are reclaimed."
    )
    max_deaths: PositiveInt = Field(default=3, description="A run that killed its process this often is failed.")
    stop_grace_seconds: NonNegativeFloat = Field(
        default=7.0,
        description="How long a worker that is told to stop lets jobs run. Then they are ended, and run elsewhere.",
    )
    packet_budget_seconds: PositiveFloat = Field(
        default=0.1, description="After this time a packet gives back the runs it has not begun."
    )
    database_patience_seconds: PositiveFloat = Field(
        default=300.0, description="How long a worker keeps trying to record an outcome while PostgreSQL is away."
    )
    history_days: PositiveInt = Field(default=90, description="Closed runs are dropped after this many days.")
    usage_days: PositiveInt = Field(default=400, description="What tenants used is dropped after this many days.")
