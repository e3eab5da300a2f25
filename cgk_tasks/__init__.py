"""Background jobs for multi-tenant products: typed events, durable runs in PostgreSQL, executed by Celery.

    from cgk_tasks import JobContext, define_job, send_job
    from cgk_tasks.events import OrderCreated

    @define_job("send-receipt", event="order.created")
    def send_receipt(ctx: JobContext[OrderCreated]) -> None: ...

    send_job("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97})

Names are imported when they are first used, so that `cgk_tasks.events` alone stays light. Their types are in
`__init__.pyi`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cgk_tasks.collector import collector_paused
from cgk_tasks.moved import forward_old_imports

_HOMES = {
    "cgk_tasks.celery_app": ("Celery", "app", "create_app"),
    "cgk_tasks.client": (
        "Health", "JobClient", "JobProvider", "SendItem", "SentItem", "WaitResult", "acancel_job",
        "acancel_run", "aget_job_status", "aget_run", "areplay_run", "aretry_job", "aschedule_job",
        "asend_job", "asend_jobs", "asend_jobs_in_chunks", "asignal_run", "atrigger_and_wait", "cancel_job",
        "cancel_run", "create_job_client", "get_job_client", "get_job_status", "get_run", "replay_run",
        "reset_job_client", "retry_job", "schedule_job", "send_job", "send_jobs", "send_jobs_in_chunks",
        "set_job_client", "signal_run", "trigger_and_wait",
    ),
    "cgk_tasks.jobs.classification": ("Classification", "classify_error"),
    "cgk_tasks.config": ("Settings", "get_settings"),
    "cgk_tasks.errors": (
        "CgkTasksError", "PermanentError", "RetryLater", "TransientError", "create_permanent_error",
        "create_retryable_error",
    ),
    "cgk_tasks.events": (
        "EVENT_CATEGORIES", "TOTAL_EVENT_COUNT", "JobEvent", "JobPayload", "TenantEvent", "validate_tenant_id",
    ),
    "cgk_tasks.runs.models": ("Progress", "RunHandle", "RunStatus"),
    "cgk_tasks.runs.usage": ("Usage", "get_usage"),
    "cgk_tasks.flow.new_run": ("SendOptions",),
    "cgk_tasks.flow.guards": ("GuardStatus", "close_guard", "list_guards", "open_guard"),
    "cgk_tasks.flow.job_limits": (
        "JobLimit", "LimitChange", "limit_history", "list_limits", "remove_limit", "set_limit",
    ),
    "cgk_tasks.flow.pauses": ("Pause", "list_pauses", "pause", "resume"),
    "cgk_tasks.flow.quarantine": ("Quarantine", "end_quarantine", "list_quarantines"),
    "cgk_tasks.flow.plans": (
        "Plan", "TenantLimits", "get_tenant_limits", "list_plans", "remove_plan", "set_plan", "set_tenant_limits",
    ),
    "cgk_tasks.schedules.define": ("define_cron_job",),
    "cgk_tasks.schedules.health": ("late_schedules",),
    "cgk_tasks.schedules.overrides": ("override_schedule", "reset_schedule"),
    "cgk_tasks.schedules.schedule": ("Schedule",),
    "cgk_tasks.schedules.lookup": ("SCHEDULES",),
    "cgk_tasks.schedules.tenant_schedules": (
        "TenantSchedule", "create_schedule", "delete_schedule", "get_schedule", "list_schedules", "pause_schedule",
        "resume_schedule", "update_schedule",
    ),
    "cgk_tasks.admission.rules": ("AtOnce", "Throttle"),
    "cgk_tasks.admission.send_rules": ("Batch", "Debounce", "RateLimit", "Singleton"),
    "cgk_tasks.jobs.context": ("JobContext",),
    "cgk_tasks.jobs.cursors": ("create_cursor_state", "update_cursor_state"),
    "cgk_tasks.jobs.guards": ("define_guard",),
    "cgk_tasks.jobs.idempotency": ("generate_idempotency_key", "idempotency_key", "parse_idempotency_key"),
    "cgk_tasks.inbound.sources": ("WebhookDelivery", "define_webhook"),
    "cgk_tasks.jobs.registry": ("define_job",),
    "cgk_tasks.jobs.middleware": (
        "compose_middleware", "with_error_classification", "with_idempotency", "with_logging",
        "with_rate_limit", "with_tenant_context", "with_timeout", "with_timing",
    ),
    "cgk_tasks.jobs.rate_limit": ("create_rate_limiter",),
    "cgk_tasks.jobs.result": ("JobFailure", "JobResult"),
    "cgk_tasks.jobs.retry": ("RetryConfig", "calculate_retry_delay"),
    "cgk_tasks.in_process": ("EmbeddedWorker", "embedded_worker", "worker_lifespan"),
    "cgk_tasks.job_queues.named_jobs": ("NamedJob",),
    "cgk_tasks.job_queues.processing": ("JobProcessor", "process_jobs"),
    "cgk_tasks.job_queues.queue": ("JobQueue", "QueuedJob", "create_job_id", "create_job_queue"),
    "cgk_tasks.worker.handler": ("create_job_handler",),
    "cgk_tasks.workflows.async_context": ("AsyncWorkflowContext",),
    "cgk_tasks.workflows.context": ("WorkflowContext",),
    "cgk_tasks.workflows.define": ("define_workflow",),
    "cgk_tasks.workflows.effects": ("Reconciled",),
    "cgk_tasks.tenancy": (
        "Tenant", "active_tenants", "current_tenant", "get_all_tenants", "platform_context", "tenant_cache",
        "tenant_context", "tenant_session", "tenant_storage_path",
    ),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

forward_old_imports()

__version__ = "0.1.0"
__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - the table above is the list


def __getattr__(name: str) -> Any:
    if name == "tasks":
        return import_module("cgk_tasks.tasks")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'cgk_tasks' has no attribute {name!r}")
    with collector_paused():
        value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
