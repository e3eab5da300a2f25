"""Repeat orders and their billing."""

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Timestamp


class SubscriptionCreated(TenantEvent, event="subscription.created", category="subscriptions"):
    """A customer subscribed to a plan."""

    subscription_id: str
    customer_id: str
    plan_id: str


class SubscriptionBilling(TenantEvent, event="subscription.billing", category="subscriptions"):
    """Subscriptions that are due are to be billed: one, or all of a day."""

    subscription_id: str | None = None
    billing_date: Timestamp | None = None


class SubscriptionCancelled(TenantEvent, event="subscription.cancelled", category="subscriptions"):
    """A subscription was cancelled."""

    subscription_id: str
    reason: str | None = None
    effective_date: Timestamp | None = None


class SubscriptionRenewal(TenantEvent, event="subscription.renewal", category="subscriptions"):
    """A subscription is about to renew."""

    subscription_id: str
    next_billing_date: Timestamp
