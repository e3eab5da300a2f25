"""The public names change on purpose only: whoever adds one adds it here, and documents it."""

import cgk_tasks
from cgk_tasks import catalog, errors, events, testing

PACKAGE = """
    AsyncWorkflowContext AtOnce Batch Celery CgkTasksError Classification Debounce EVENT_CATEGORIES
    EmbeddedWorker GuardStatus Health JobClient JobContext JobEvent JobFailure JobLimit JobPayload
    JobProcessor JobProvider JobQueue JobResult LimitChange NamedJob Pause PermanentError Plan Progress
    Quarantine QueuedJob RateLimit Reconciled RetryConfig RetryLater RunHandle RunStatus SCHEDULES
    Schedule SendItem SendOptions SentItem Settings Singleton TOTAL_EVENT_COUNT Tenant TenantEvent
    TenantLimits TenantSchedule Throttle TransientError Usage WaitResult WebhookDelivery WorkflowContext
    acancel_job acancel_run active_tenants aget_job_status aget_run app areplay_run aretry_job
    aschedule_job asend_job asend_jobs asend_jobs_in_chunks asignal_run atrigger_and_wait
    calculate_retry_delay cancel_job cancel_run classify_error close_guard compose_middleware create_app
    create_cursor_state create_job_client create_job_handler create_job_id create_job_queue
    create_permanent_error create_rate_limiter create_retryable_error create_schedule current_tenant
    define_cron_job define_guard define_job define_webhook define_workflow delete_schedule
    embedded_worker end_quarantine generate_idempotency_key get_all_tenants get_job_client get_job_status
    get_run get_schedule get_settings get_tenant_limits get_usage idempotency_key late_schedules
    limit_history list_guards list_limits list_pauses list_plans list_quarantines list_schedules
    open_guard override_schedule parse_idempotency_key pause pause_schedule platform_context process_jobs
    remove_limit remove_plan replay_run reset_job_client reset_schedule resume resume_schedule retry_job
    schedule_job send_job send_jobs send_jobs_in_chunks set_job_client set_limit set_plan
    set_tenant_limits signal_run tenant_cache tenant_context tenant_session tenant_storage_path
    trigger_and_wait update_cursor_state update_schedule validate_tenant_id with_error_classification
    with_idempotency with_logging with_rate_limit with_tenant_context with_timeout with_timing
    worker_lifespan
"""
EVENTS = """
    ALIASES EVENT_CATEGORIES JsonArray JsonObject Money OnDemand Searchable Sensitive TOTAL_EVENT_COUNT
    TenantEvent Timestamp WireModel class_name get_event parse_event parse_event_json searchable_fields
    sensitive_fields task_attribute validate_tenant_id
"""
ERRORS = """
    AddressRefusedError BrokerError CgkTasksError ChildCancelledError ChildFailedError ChildTimeoutError
    ChunkRefusedError ConfigurationError EmbeddedError IdempotencyConflictError InvalidOptionError
    InvalidTenantError JobError JobLostError JobTimeoutError LimitReached OutcomeNotRecordedError
    PayloadInvalidError PayloadTooLargeError PermanentError ProviderError QueueFullError
    QuotaExceededError RequestRefusedError ResultTooLargeError RetryLater RunCancelledError RunError
    RunFailedError RunLostError RunStateError SecretUnreadableError SendError SignalUrlError
    StaleAttemptError StepFailedError StoreError TenantContextError TenantError TenantMissingError
    TransientError UnknownEndpointError UnknownEventError UnknownKeyError UnknownRunError
    UnknownScheduleError UnknownTenantError WaitTimeoutError WorkflowChangedError as_seconds
    create_permanent_error create_retryable_error wait_seconds
"""


def test_the_package_has_these_names():
    assert sorted(cgk_tasks.__all__) == PACKAGE.split()


def test_every_public_name_can_be_imported():
    missing = [name for name in cgk_tasks.__all__ if getattr(cgk_tasks, name, None) is None]
    assert missing == []


def test_the_events_package_has_these_names_beside_the_catalogs():
    assert sorted({*events.__all__, "ALIASES"} - (set(catalog.__all__) - {"ALIASES"})) == EVENTS.split()


def test_the_errors_are_these():
    defined = [
        name
        for name, value in vars(errors).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == errors.__name__
    ]
    assert sorted(defined) == ERRORS.split()


def test_the_helpers_for_tests_are_these():
    assert sorted(testing.__all__) == [
        "LocalJobs", "NotIdempotentError", "Proof", "private_services", "prove_idempotent", "run_job",
    ]  # fmt: skip


def test_every_sync_function_about_runs_has_an_asyncio_twin():
    sync = ["send_job", "send_jobs", "send_jobs_in_chunks", "schedule_job", "trigger_and_wait"]
    sync += ["get_run", "cancel_run", "replay_run", "signal_run", "get_job_status", "cancel_job", "retry_job"]
    assert [name for name in sync if f"a{name}" not in cgk_tasks.__all__] == []
