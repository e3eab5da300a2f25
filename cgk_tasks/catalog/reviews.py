"""Product reviews, the emails that ask for them, and surveys."""

from typing import Literal

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Email, PersonName, RecordId, Timestamp


class ReviewSubmitted(TenantEvent, event="review.submitted", category="reviews"):
    """A customer wrote a review."""

    review_id: RecordId
    rating: int = Field(description="Number of stars.")
    order_id: RecordId | None = None
    customer_id: RecordId | None = None


class ReviewModerated(TenantEvent, event="review.moderated", category="reviews"):
    """A moderator decided about a review; its author is to be told."""

    review_id: RecordId
    action: Literal["approve", "reject", "spam"]
    reviewer_email: Email
    reviewer_name: PersonName | None
    product_title: str | None


class ReviewEmailQueued(TenantEvent, event="review.email.queued", category="reviews"):
    """An email that asks for a review is waiting to be sent."""

    review_email_id: RecordId
    order_id: RecordId
    customer_id: RecordId
    template_id: RecordId
    scheduled_for: Timestamp | None = None


class ReviewEmailSent(TenantEvent, event="review.email.sent", category="reviews"):
    """An email that asks for a review was sent."""

    review_email_id: RecordId
    message_id: RecordId | None = None


class ReviewReminder(TenantEvent, event="review.reminder", category="reviews"):
    """A customer is to be reminded of the review of an order."""

    order_id: RecordId
    reminder_number: int = Field(description="1 for the first reminder.")


class SurveyResponse(TenantEvent, event="survey.response", category="reviews"):
    """A customer answered a survey."""

    response_id: RecordId
    survey_id: RecordId
    customer_id: RecordId | None = None
    order_id: RecordId | None = None


class SurveyDigest(TenantEvent, event="survey.digest", category="reviews"):
    """The summary of recent survey answers is to be compiled and sent."""

    frequency: Literal["daily", "weekly"]


class SurveyLowNps(TenantEvent, event="survey.lowNps", category="reviews"):
    """A customer gave a low recommendation score; somebody should follow up."""

    response_id: RecordId
    survey_id: RecordId
    nps_score: int = Field(description="0 to 10.")
    customer_id: RecordId | None = None


class ReviewEmailProcessQueue(TenantEvent, event="review.email.processQueue", category="reviews"):
    """Emails that ask for a review and wait in the queue are to be sent, a batch at a time."""

    batch_size: int | None = Field(default=None, description="At most so many emails.")


class ReviewEmailRetryFailed(TenantEvent, event="review.email.retryFailed", category="reviews"):
    """Emails that ask for a review and could not be sent are to be tried again."""

    batch_size: int | None = Field(default=None, description="At most so many emails.")


class ReviewEmailCheckDeliveries(TenantEvent, event="review.email.checkDeliveries", category="reviews"):
    """Emails that wait for an order to be delivered are to be queued where it was."""
