"""How the page of the Python names is divided, and the examples of names whose docstrings have none."""

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
        get_run cancel_run replay_run RunStatus get_job_status cancel_job retry_job
        """,
    ),
    (
        "For asyncio",
        """
        asend_job asend_jobs asend_jobs_in_chunks aschedule_job atrigger_and_wait aget_run acancel_run
        areplay_run aget_job_status acancel_job aretry_job
        """,
    ),
    (
        "Jobs",
        """
        define_job define_cron_job JobContext RetryConfig PermanentError TransientError RetryLater
        create_permanent_error create_retryable_error CgkTasksError Classification classify_error
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
        Tenant active_tenants tenant_context platform_context current_tenant tenant_session tenant_cache
        tenant_storage_path
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
        app create_app Settings get_settings
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

_MIDDLEWARE = '@define_job("charge", event="order.created", middleware=[{0}])\ndef charge(ctx): ...'

EXAMPLES = {
    "send_jobs": 'handles = send_jobs([SendItem("order.created", order) for order in orders])',
    "schedule_job": 'schedule_job("cart.abandoned", payload, delay=timedelta(hours=4))',
    "trigger_and_wait": 'total = trigger_and_wait("order.created", payload, timeout=10).unwrap()',
    "SendItem": 'SendItem("order.created", payload, SendOptions(priority=9))',
    "SendOptions": 'create_job_client(defaults=SendOptions(queue="slow", expires=3600))',
    "RunHandle": 'if send_job("order.created", payload, idempotency_key="o-1").deduplicated:\n    print("sent before")',
    "SentItem": "failed = [sent for sent in send_jobs_in_chunks(items) if sent.error is not None]",
    "WaitResult": 'result = trigger_and_wait("order.created", payload)\nif result.timed_out:\n    print(result.run_id)',
    "idempotency_key": 'send_job("payout.failed", payload, idempotency_key=idempotency_key("acme", "payout", "p-7"))',
    "generate_idempotency_key": 'generate_idempotency_key("acme", "payout", "p-7", "2026-11")',
    "parse_idempotency_key": 'parse_idempotency_key("acme:payout:p-7").entity',
    "RunStatus": 'run = get_run(run_id)\nif run.is_closed and run.state != "completed":\n    print(run.error_code, run.error)',
    "get_job_status": "get_job_status(run_id).state",
    "cancel_job": "cancel_job(run_id)",
    "retry_job": "retry_job(run_id)",
    "asend_job": 'async def order_placed(session):\n    run = await asend_job("order.created", payload, session=session)',
    "asend_jobs": "async def import_orders(items):\n    return await asend_jobs(items)",
    "asend_jobs_in_chunks": "async def import_orders(items):\n    async for sent in asend_jobs_in_chunks(items):\n        print(sent.position)",
    "aschedule_job": 'async def remind():\n    await aschedule_job("cart.abandoned", payload, delay=14_400)',
    "atrigger_and_wait": 'async def total():\n    return (await atrigger_and_wait("order.created", payload)).unwrap()',
    "aget_run": "async def state(run_id):\n    return (await aget_run(run_id)).state",
    "acancel_run": "async def stop(run_id):\n    await acancel_run(run_id)",
    "areplay_run": "async def again(run_id):\n    return await areplay_run(run_id)",
    "aget_job_status": "async def state(run_id):\n    return (await aget_job_status(run_id)).state",
    "acancel_job": "async def stop(run_id):\n    await acancel_job(run_id)",
    "aretry_job": "async def again(run_id):\n    return await aretry_job(run_id)",
    "define_cron_job": '@define_cron_job("nightly-report", schedule="0 3 * * *", timezone="Europe/Berlin")\ndef report(ctx): ...',
    "JobContext": '@define_job("record-order", event="order.created")\ndef record(ctx: JobContext[OrderCreated]) -> None:\n    ctx.logger.info("recorded", order=ctx.payload.order_id, attempt=ctx.attempt)',
    "RetryConfig": '@define_job("charge", event="order.created", retry=RetryConfig(max_attempts=6, initial_delay=5, max_delay=1800))\ndef charge(ctx): ...',
    "PermanentError": 'raise PermanentError("The account is closed", code="ACCOUNT_DISABLED")',
    "TransientError": 'raise TransientError("The bank is busy", retry_after=120)',
    "RetryLater": 'raise RetryLater(timedelta(hours=1), "the bank opens at nine")',
    "create_permanent_error": 'raise create_permanent_error("The account is closed", "ACCOUNT_DISABLED")',
    "create_retryable_error": 'raise create_retryable_error("The bank is busy", retry_after=120)',
    "CgkTasksError": 'try:\n    send_job("order.created", payload)\nexcept CgkTasksError as error:\n    print(error.code, error.text, error.hint)',
    "Classification": 'if classify_error(error).kind == "permanent":\n    give_up()',
    "classify_error": 'classify_error(ConnectionRefusedError()).code  # "CONNECTION_REFUSED"',
    "compose_middleware": "standard = compose_middleware(with_timing(), audit)\n\n" + _MIDDLEWARE.format("standard"),
    "create_job_handler": "handler = create_job_handler(charge, timeout=30)\nhandler(ctx)",
    "with_error_classification": _MIDDLEWARE.format("with_error_classification"),
    "with_logging": _MIDDLEWARE.format("with_logging"),
    "create_rate_limiter": "limiter = create_rate_limiter(max_concurrent=5, interval=1, max_per_interval=25)",
    "with_tenant_context": "handler = compose_middleware(with_tenant_context, audit)",
    "with_timeout": _MIDDLEWARE.format("with_timeout(5)"),
    "with_timing": _MIDDLEWARE.format("with_timing(record=lambda ctx, seconds: histogram.observe(seconds))"),
    "TenantEvent": 'class PlanChanged(TenantEvent, event="plan.changed"):\n    plan: str',
    "JobEvent": 'name: JobEvent = "order.created"',
    "JobPayload": "def handle(event: JobPayload) -> None: ...",
    "EVENT_CATEGORIES": 'for name in EVENT_CATEGORIES["commerce"]:\n    print(name)',
    "TOTAL_EVENT_COUNT": "print(TOTAL_EVENT_COUNT)",
    "validate_tenant_id": 'validate_tenant_id("acme")',
    "Tenant": 'suspended = [tenant.id for tenant in all_tenants if tenant.state == "suspended"]',
    "active_tenants": 'for tenant in active_tenants():\n    with tenant_context(tenant):\n        send_job("analytics.aggregate", payload)',
    "platform_context": "with platform_context():\n    for tenant in active_tenants():\n        with tenant_context(tenant):\n            rebuild()",
    "current_tenant": "print(current_tenant().id)",
    "tenant_cache": 'tenant_cache().set("rates", rates, seconds=3600)',
    "tenant_storage_path": 'tenant_storage_path("exports", "orders.csv").write_text(text)',
    "SCHEDULES": 'print(SCHEDULES["ab.hourlyMetrics"].cron)',
    "Schedule": 'Schedule("report.nightly", "0 3 * * *", "Europe/Berlin", "analytics.aggregate", spread=600)',
    "TenantSchedule": 'for schedule in list_schedules("acme"):\n    print(schedule.event, schedule.next_at)',
    "get_schedule": "print(get_schedule(schedule_id).cron)",
    "list_schedules": 'list_schedules("acme")',
    "update_schedule": 'update_schedule(schedule_id, cron="0 8 * * 1")',
    "pause_schedule": "pause_schedule(schedule_id)",
    "resume_schedule": "resume_schedule(schedule_id)",
    "delete_schedule": "delete_schedule(schedule_id)",
    "override_schedule": 'override_schedule("ab.hourlyMetrics", "acme", enabled=False)',
    "reset_schedule": 'reset_schedule("ab.hourlyMetrics", "acme")',
    "late_schedules": "for one in late_schedules():\n    print(one.name, one.seconds_late)",
    "create_job_client": 'client = create_job_client("local", concurrency=2)',
    "get_job_client": "get_job_client().health_check().healthy",
    "set_job_client": 'before = set_job_client(create_job_client("local"))',
    "reset_job_client": "reset_job_client()",
    "JobClient": 'client = create_job_client(defaults=SendOptions(queue="slow"))\nclient.send("order.created", payload)',
    "JobProvider": "set_job_client(JobClient(provider))",
    "Health": "health = get_job_client().health_check()\nif not health.healthy:\n    print(health.error, health.hint)",
    "app": '@app.task\ndef resize(path: str) -> None: ...\n\nwith tenant_context("acme"):\n    resize.delay("a.png")',
    "create_app": 'app = create_app("shop")',
    "Settings": "print(Settings().default_queue)",
    "get_settings": "print(get_settings().history_days)",
}
