"""Telemetry (frequent, small, and not worth a record each, so not durable), and the figures of a period."""

from typing import Literal

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import PersonalData, RecordId, Timestamp


class AnalyticsTrack(TenantEvent, event="analytics.track", category="analytics", durable=False):
    """A user did something worth counting."""

    event: str
    user_id: RecordId | None = None
    properties: PersonalData | None = None
    occurred_at: Timestamp | None = None


class AnalyticsPageView(TenantEvent, event="analytics.page_view", category="analytics", durable=False):
    """A user looked at a page."""

    url: str
    user_id: RecordId | None = None
    session_id: str | None = None
    referrer: str | None = None
    occurred_at: Timestamp | None = None


class AnalyticsAggregate(TenantEvent, event="analytics.aggregate", category="analytics"):
    """The tenant's figures of a period are to be summed up."""

    period: Literal["hourly", "daily", "weekly"]
