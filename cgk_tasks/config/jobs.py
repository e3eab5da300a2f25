"""Settings: jobs and sends."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import MAX_PAYLOAD_BYTES, Names


class JobSettings(Concern):
    """Jobs and sends."""

    catalog: str = Field(
        default="cgk_tasks.catalog",
        description="The module with the platform's events, schedules and jobs; `none` for none, or one of your own.",
    )
    job_modules: Names = Field(
        default=(), description="Modules with @define_job, imported by the worker; separated by commas."
    )
    periodic_tasks_tenant: str | None = Field(
        default=None,
        description="Tenant of a periodic task (django-celery-beat, beat_schedule) that names none; * for every "
        "active tenant. Unset: it is not sent, and shows as failing.",
    )
    default_queue: str = Field(default="cgk", description="Queue of a send that names none.")
    queues: Names = Field(
        default=(), description="Further queues that a worker without -Q listens to; separated by commas."
    )
    default_timeout_seconds: PositiveFloat = Field(
        default=3600.0, description="Soft time limit of an event's job that names none."
    )
    hard_timeout_grace_seconds: PositiveFloat = Field(
        default=30.0, description="A job that ignores its soft limit this long is killed with its process."
    )
    max_payload_bytes: PositiveInt = Field(default=MAX_PAYLOAD_BYTES, description="Larger payloads are refused.")
    max_result_bytes: PositiveInt = Field(
        default=MAX_PAYLOAD_BYTES,
        description="A larger result is not kept: the run completes, with a note in its result's place.",
    )
    idempotency_seconds: PositiveFloat = Field(
        default=86400.0, description="How long an idempotency key is remembered."
    )
    max_steps: PositiveInt = Field(
        default=1000, description="A workflow's run with more steps fails; a warning comes at four fifths of them."
    )
    mail_days: PositiveInt = Field(
        default=7, description="How long events that workflows may wait for are kept for waits that come later."
    )
