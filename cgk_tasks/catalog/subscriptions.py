"""Repeat orders and their billing."""

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Days, RecordId, Timestamp


class SubscriptionCreated(TenantEvent, event="subscription.created", category="subscriptions"):
    """A customer subscribed to a plan."""

    subscription_id: RecordId
    customer_id: RecordId
    plan_id: RecordId


class SubscriptionBilling(TenantEvent, event="subscription.billing", category="subscriptions"):
    """Subscriptions that are due are to be billed: one, or all of a day."""

    subscription_id: RecordId | None = None
    billing_date: Timestamp | None = None


class SubscriptionCancelled(TenantEvent, event="subscription.cancelled", category="subscriptions"):
    """A subscription was cancelled."""

    subscription_id: RecordId
    reason: str | None = None
    effective_date: Timestamp | None = None


class SubscriptionRenewal(TenantEvent, event="subscription.renewal", category="subscriptions"):
    """A subscription is about to renew."""

    subscription_id: RecordId
    next_billing_date: Timestamp


class SubscriptionRetryFailed(TenantEvent, event="subscription.retryFailed", category="subscriptions"):
    """Billings that failed and may be tried again are to be tried again."""


class SubscriptionAnalytics(TenantEvent, event="subscription.analytics", category="subscriptions"):
    """The figures of all subscriptions are to be recorded as they stand."""

    snapshot_date: Timestamp | None = None


class SubscriptionUpcomingReminders(TenantEvent, event="subscription.upcomingReminders", category="subscriptions"):
    """Customers whose subscription renews soon are to be told."""

    days_ahead: Days | None = None
