"""Settings: schedules."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ScheduleSettings(BaseModel):
    """Schedules."""

    schedules_need_jobs: bool = Field(
        default=False,
        description="Beat leaves out schedules whose event has no job in `CGK_JOB_MODULES`, where runs would be unhandled.",
    )
