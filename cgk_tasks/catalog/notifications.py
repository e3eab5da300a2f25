"""Messages to people, by email, text message, Slack and push."""

from typing import Annotated, Literal

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import (
    Email,
    JsonArray,
    MessageText,
    PersonalData,
    PhoneNumber,
    RecordId,
    Sensitive,
)


class EmailSend(TenantEvent, event="email.send", category="notifications"):
    """An email is to be sent from a template."""

    to: Email
    template_id: RecordId
    data: PersonalData
    priority: Literal["high", "normal", "low"] | None = None


class EmailReviewRequest(TenantEvent, event="email.review_request", category="notifications"):
    """The buyer of an order is to be asked for a review by email."""

    order_id: RecordId
    customer_email: Email | None = None
    template_id: RecordId | None = None


class SmsSend(TenantEvent, event="sms.send", category="notifications"):
    """A text message is to be sent."""

    to: PhoneNumber
    message: MessageText
    template_id: RecordId | None = None


class SlackNotify(TenantEvent, event="slack.notify", category="notifications"):
    """A message is to be posted to a Slack channel."""

    channel: str
    message: MessageText
    blocks: Annotated[JsonArray, Sensitive()] | None = None


class PushNotification(TenantEvent, event="push.notification", category="notifications"):
    """A push notification is to be sent to a user's devices."""

    user_id: RecordId
    title: MessageText
    body: MessageText
    data: PersonalData | None = None


class DigestSend(TenantEvent, event="digest.send", category="notifications"):
    """A digest is to be compiled and sent to those who are subscribed to it."""

    digest: Literal["adminDaily", "atRiskProjects", "creatorWeekly"]
