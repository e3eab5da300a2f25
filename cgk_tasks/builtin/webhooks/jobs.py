"""The jobs of the webhook events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from cgk_tasks.builtin.job import builtin_job
from cgk_tasks.builtin.webhooks import deliveries
from cgk_tasks.builtin.webhooks.endpoints import (
    SQL,
    Endpoint,
    forget_old_secrets,
    get_endpoint,
    list_endpoints,
)
from cgk_tasks.builtin.webhooks.post import Answer, message, new_client
from cgk_tasks.catalog.webhooks import (
    WebhookCleanup,
    WebhookHealthCheck,
    WebhookProcess,
    WebhookReceived,
    WebhookRetry,
)
from cgk_tasks.client import send_job
from cgk_tasks.errors import PermanentError, RetryLater
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.event_loop import run_coroutine
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit, execute

_DAYS: Final = 30
_SLACK_SECONDS: Final = 0.5


def receive(ctx: JobContext[WebhookReceived]) -> dict[str, Any]:
    """Put the call on record and send `webhook.process` for it, once however often the call comes."""
    call = ctx.payload
    deliveries.keep_message(ctx.tenant_id, call.webhook_event_id, source=call.source, topic=call.topic, body=call.body)
    following = WebhookProcess(
        tenant_id=ctx.tenant_id, webhook_event_id=call.webhook_event_id, source=call.source, topic=call.topic
    )
    run = send_job(following, idempotency_key=f"webhook:{call.webhook_event_id}")
    return {"run": run.id, "repeated": run.deduplicated}


def process(ctx: JobContext[WebhookProcess]) -> dict[str, Any]:
    """Deliver the message to every endpoint of the tenant that wants its topic."""
    call = ctx.payload
    deliveries.keep_message(ctx.tenant_id, call.webhook_event_id, source=call.source, topic=call.topic, body=call.body)
    kept = _find(ctx.tenant_id, call.webhook_event_id)
    deliveries.open_deliveries(ctx.tenant_id, kept)
    return _deliver(ctx, kept, call.webhook_event_id, attempt=1)


def retry(ctx: JobContext[WebhookRetry]) -> dict[str, Any]:
    """Deliver again what failed. Attempt 1 begins anew with what was given up; the others are sent by the one
    before.
    """
    kept = _find(ctx.tenant_id, ctx.payload.webhook_event_id)
    if ctx.payload.attempt <= 1:
        deliveries.reopen_deliveries(kept)
    return _deliver(ctx, kept, ctx.payload.webhook_event_id, attempt=ctx.payload.attempt)


def _find(tenant_id: str, event_id: str) -> deliveries.KeptMessage:
    kept = deliveries.find_message(tenant_id, event_id)
    if kept is None:
        raise PermanentError(
            "There is no webhook message with this webhookEventId: it was never sent, or cleaned up.",
            "RECORD_NOT_FOUND",
        )
    return kept


def _deliver(ctx: JobContext[Any], kept: deliveries.KeptMessage, event_id: str, attempt: int) -> dict[str, Any]:
    attempted = deliveries.attempt_due(kept)
    now = deliveries.progress(kept)
    if now.seconds is not None and not attempted:
        # Not yet: another run is delivering, or began to and died.
        raise RetryLater(now.seconds + _SLACK_SECONDS, "the deliveries are not due yet")
    if now.seconds is not None:
        following = WebhookRetry(tenant_id=ctx.tenant_id, webhook_event_id=event_id, attempt=attempt + 1)
        # The run's id in the key: this attempt is followed by one, also when it runs again after a crash.
        send_job(following, delay=now.seconds, idempotency_key=f"after:{ctx.run_id}")
    return {"delivered": now.delivered, "failed": now.failed, "waiting": now.waiting}


def check_health(ctx: JobContext[WebhookHealthCheck]) -> dict[str, Any]:
    """Post a signed `webhook.ping` to one endpoint, or to all that are on, and note the answers.

    It switches nothing on or off: a receiver may know no pings.
    """
    if ctx.payload.endpoint_id is not None:
        endpoints = [get_endpoint(ctx.tenant_id, ctx.payload.endpoint_id)]
    else:
        endpoints = [endpoint for endpoint in list_endpoints(ctx.tenant_id) if endpoint.is_on]
    answers = run_coroutine(_ping_all(endpoints))
    results = []
    for endpoint, answer in zip(endpoints, answers, strict=True):
        outcome = answer.error or "ok"
        with autocommit() as connection:
            execute(connection, SQL["note_check"], {"id": endpoint.id, "outcome": outcome})
        results.append({"endpointId": endpoint.id, "healthy": answer.error is None, "outcome": outcome})
    return {"healthy": all(result["healthy"] for result in results), "endpoints": results}


async def _ping_all(endpoints: list[Endpoint]) -> list[Answer]:
    ping = message(f"msg_{new_run_id().replace('-', '')}", "webhook.ping", datetime.now(UTC), {})
    async with new_client() as client:
        return await asyncio.gather(*(deliveries.post_signed(client, endpoint.target, ping) for endpoint in endpoints))


def clean_up(ctx: JobContext[WebhookCleanup]) -> dict[str, int]:
    """Delete the tenant's old messages and what is known of their deliveries."""
    forget_old_secrets(ctx.tenant_id)
    days = ctx.payload.older_than_days
    return {"messages": deliveries.forget_messages(ctx.tenant_id, _DAYS if days is None else max(days, 0))}


# Of the jobs themselves, when PostgreSQL is away: deliveries have their own waits, CGK_WEBHOOK_RETRY_SECONDS.
_RETRY: Final = RetryConfig(max_attempts=5, initial_delay=2, max_delay=60)
_TIMEOUT_SECONDS: Final = 600.0

JOBS: Final = (
    builtin_job("webhook.received", receive, retry=_RETRY, timeout=_TIMEOUT_SECONDS),
    builtin_job("webhook.process", process, retry=_RETRY, timeout=_TIMEOUT_SECONDS),
    builtin_job("webhook.retry", retry, retry=_RETRY, timeout=_TIMEOUT_SECONDS),
    builtin_job("webhook.healthCheck", check_health, retry=RetryConfig(max_attempts=1), timeout=_TIMEOUT_SECONDS),
    builtin_job("webhook.cleanup", clean_up, retry=_RETRY, timeout=_TIMEOUT_SECONDS),
)
