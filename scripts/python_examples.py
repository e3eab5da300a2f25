"""How the page of the Python names is divided, and the examples of names whose docstrings have none."""

import re
from pathlib import Path

GROUPS = [
    (
        "Sending",
        """
        send_job send_jobs send_jobs_in_chunks schedule_job trigger_and_wait SendItem SendOptions RunHandle
        SentItem WaitResult idempotency_key generate_idempotency_key parse_idempotency_key
        """,
    ),
    (
        "Runs",
        """
        get_run cancel_run replay_run RunStatus Progress get_job_status cancel_job retry_job
        """,
    ),
    (
        "For asyncio",
        """
        asend_job asend_jobs asend_jobs_in_chunks aschedule_job atrigger_and_wait aget_run acancel_run asignal_run
        areplay_run aget_job_status acancel_job aretry_job
        """,
    ),
    (
        "Jobs",
        """
        define_job define_cron_job AtOnce Throttle RateLimit Singleton Debounce Batch JobContext RetryConfig
        calculate_retry_delay JobResult JobFailure
        PermanentError TransientError RetryLater
        create_permanent_error create_retryable_error CgkTasksError Classification classify_error create_cursor_state
        update_cursor_state
        """,
    ),
    (
        "Workers inside an application",
        """
        embedded_worker worker_lifespan EmbeddedWorker
        """,
    ),
    (
        "Queues of named jobs",
        """
        create_job_queue JobQueue QueuedJob process_jobs JobProcessor NamedJob create_job_id
        """,
    ),
    (
        "Workflows",
        """
        define_workflow WorkflowContext AsyncWorkflowContext Reconciled signal_run
        """,
    ),
    (
        "Webhooks that are received",
        """
        define_webhook WebhookDelivery
        """,
    ),
    (
        "Middleware",
        """
        compose_middleware create_job_handler with_error_classification with_idempotency with_logging
        with_rate_limit create_rate_limiter with_tenant_context with_timeout with_timing
        """,
    ),
    (
        "Events",
        """
        TenantEvent JobEvent JobPayload EVENT_CATEGORIES TOTAL_EVENT_COUNT validate_tenant_id
        """,
    ),
    (
        "Tenants",
        """
        Tenant active_tenants get_all_tenants tenant_context platform_context current_tenant tenant_session
        tenant_cache tenant_storage_path
        """,
    ),
    (
        "Plans, limits, pauses and usage",
        """
        set_plan list_plans remove_plan Plan set_tenant_limits get_tenant_limits TenantLimits set_limit remove_limit
        list_limits JobLimit limit_history LimitChange define_guard list_guards GuardStatus close_guard open_guard
        pause resume list_pauses Pause list_quarantines end_quarantine Quarantine get_usage Usage
        """,
    ),
    (
        "Schedules",
        """
        SCHEDULES Schedule TenantSchedule create_schedule get_schedule list_schedules update_schedule
        pause_schedule resume_schedule delete_schedule override_schedule reset_schedule late_schedules
        """,
    ),
    (
        "The client and its providers",
        """
        create_job_client get_job_client set_job_client reset_job_client JobClient JobProvider Health
        """,
    ),
    (
        "The application",
        """
        Celery app create_app Settings get_settings
        """,
    ),
]

CONSTANTS = {
    "JobEvent": "The name of an event of the catalog, as a `Literal` for type checkers.",
    "JobPayload": "An event of the catalog, as a union of all models for type checkers.",
    "EVENT_CATEGORIES": "The names of the catalog's events by category: a read-only mapping from text to a tuple.",
    "TOTAL_EVENT_COUNT": "How many events the catalog has, as an `int`.",
    "SCHEDULES": "The catalog's schedules by name, each a `Schedule`: a read-only mapping. "
    "[All of them](schedules.md).",
}

EXAMPLES = {
    match[1]: match[2].strip()
    for match in re.finditer(
        r"^## (\w+)\n+```python\n(.*?)^```$",
        Path(__file__).with_suffix(".md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
}
