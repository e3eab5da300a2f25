"""Sending: the functions applications call, the client behind them, and the providers they send to."""

from cgk_tasks.client.api import (
    acancel_job,
    aget_job_status,
    aretry_job,
    aschedule_job,
    asend_job,
    asend_jobs,
    atrigger_and_wait,
    cancel_job,
    get_job_status,
    retry_job,
    schedule_job,
    send_job,
    send_jobs,
    trigger_and_wait,
)
from cgk_tasks.client.client import (
    JobClient,
    create_job_client,
    get_job_client,
    reset_job_client,
    set_job_client,
)
from cgk_tasks.client.provider import Health, JobProvider, SendItem, WaitResult

__all__ = [
    "Health",
    "JobClient",
    "JobProvider",
    "SendItem",
    "WaitResult",
    "acancel_job",
    "aget_job_status",
    "aretry_job",
    "aschedule_job",
    "asend_job",
    "asend_jobs",
    "atrigger_and_wait",
    "cancel_job",
    "create_job_client",
    "get_job_client",
    "get_job_status",
    "reset_job_client",
    "retry_job",
    "schedule_job",
    "send_job",
    "send_jobs",
    "set_job_client",
    "trigger_and_wait",
]
