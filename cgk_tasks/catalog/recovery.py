"""Checkouts that were left before paying."""

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Days, RecordId


class RecoveryEmailScheduled(TenantEvent, event="recovery.emailScheduled", category="recovery"):
    """An email to win back an abandoned checkout was scheduled."""

    email_id: RecordId
    checkout_id: RecordId
    sequence_number: int = Field(description="1 for the first email.")


class RecoveryEmailSent(TenantEvent, event="recovery.emailSent", category="recovery"):
    """An email to win back an abandoned checkout was sent."""

    email_id: RecordId
    checkout_id: RecordId


class RecoveryCheckAbandoned(TenantEvent, event="recovery.checkAbandoned", category="recovery"):
    """Checkouts that were left without paying are to be found."""


class RecoveryProcessQueue(TenantEvent, event="recovery.processQueue", category="recovery"):
    """Recovery emails that are due are to be sent."""

    limit: int | None = Field(default=None, description="At most so many at a time.")


class RecoveryExpireOld(TenantEvent, event="recovery.expireOld", category="recovery"):
    """Recovery attempts that are too old to succeed are to be closed."""

    days_old: Days | None = None


class RecoveryCheckoutUpdated(TenantEvent, event="recovery.checkoutUpdated", category="recovery"):
    """A checkout changed in the shop, perhaps to completed."""

    shopify_checkout_id: RecordId
    completed: bool = Field(description="Whether it was paid.")
    order_id: RecordId | None = None
