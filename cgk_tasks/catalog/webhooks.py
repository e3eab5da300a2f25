"""Calls from other systems."""

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Days, PersonalData, RecordId


class WebhookReceived(TenantEvent, event="webhook.received", category="webhooks"):
    """Another system called one of our webhooks."""

    webhook_event_id: RecordId
    source: str
    topic: str | None = None
    headers: PersonalData | None = None
    body: PersonalData | None = None


class WebhookProcess(TenantEvent, event="webhook.process", category="webhooks"):
    """A webhook call that was stored is to be processed."""

    webhook_event_id: RecordId
    source: str
    topic: str | None = None
    body: PersonalData | None = None


class WebhookRetry(TenantEvent, event="webhook.retry", category="webhooks"):
    """A webhook call whose processing failed is to be processed again."""

    webhook_event_id: RecordId
    attempt: int = Field(description="1 for the first attempt.")


class WebhookHealthCheck(TenantEvent, event="webhook.healthCheck", category="webhooks"):
    """Webhook endpoints are to be checked: one, or all of them."""

    endpoint_id: RecordId | None = None


class WebhookCleanup(TenantEvent, event="webhook.cleanup", category="webhooks"):
    """Records of old webhook calls are to be deleted."""

    older_than_days: Days | None = None
