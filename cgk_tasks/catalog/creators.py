"""People who make content for a brand: applications, projects, reminders."""

from typing import Literal

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import ByteCount, Days, Email, PersonalData, PersonName, RecordId


class CreatorApplied(TenantEvent, event="creator.applied", category="creators"):
    """A creator applied to work with the brand."""

    creator_id: RecordId
    application_id: RecordId
    email: Email


class CreatorApproved(TenantEvent, event="creator.approved", category="creators"):
    """A creator's application was accepted."""

    creator_id: RecordId
    approved_by: str | None = None


class CreatorRejected(TenantEvent, event="creator.rejected", category="creators"):
    """A creator's application was turned down."""

    creator_id: RecordId
    reason: str | None = None


class CreatorSetupComplete(TenantEvent, event="creator.setupComplete", category="creators"):
    """A creator finished setting up the account."""

    creator_id: RecordId


class CreatorEmailQueued(TenantEvent, event="creator.email.queued", category="creators"):
    """An email to a creator is waiting to be sent."""

    email_id: RecordId
    creator_id: RecordId
    template_id: RecordId
    priority: Literal["high", "normal", "low"] | None = None


class CreatorReminder(TenantEvent, event="creator.reminder", category="creators"):
    """A creator is to be reminded of something that is due."""

    creator_id: RecordId
    reminder_type: Literal["delivery", "deadline", "noResponse", "abandoned"]
    project_id: RecordId | None = None


class CreatorFileUploaded(TenantEvent, event="creator.file.uploaded", category="creators"):
    """A creator uploaded a file to a project."""

    file_id: RecordId
    creator_id: RecordId
    project_id: RecordId
    file_type: Literal["video", "image", "document"]
    file_size: ByteCount


class CreatorSlackNotification(TenantEvent, event="creator.slackNotification", category="creators"):
    """The team is to be told on Slack about a creator."""

    notification_type: Literal[
        "application_received",
        "application_approved",
        "welcome_call_booked",
        "escalation",
        "product_shipped",
        "product_received",
        "contract_sent",
        "contract_signed",
        "content_submitted",
        "content_revisions_requested",
    ]
    creator_id: RecordId
    creator_name: PersonName
    creator_email: Email
    metadata: PersonalData | None = None


class CreatorShipmentSync(TenantEvent, event="creator.shipmentSync", category="creators"):
    """The state of product shipments to creators is to be read from the carriers."""

    shipment_id: RecordId | None = None
    full_sync: bool | None = Field(default=None, description="Everything, not only what changed.")


class CreatorApprovalReminders(TenantEvent, event="creator.approvalReminders", category="creators"):
    """The team is to be reminded of the applications that wait for a decision."""


class CreatorWelcomeCallReminders(TenantEvent, event="creator.welcomeCallReminders", category="creators"):
    """Creators are to be reminded of welcome calls that they have not booked."""


class ProjectCreated(TenantEvent, event="project.created", category="creators"):
    """A project with a creator was opened."""

    project_id: RecordId
    creator_id: RecordId
    type: str


class ProjectStatusChanged(TenantEvent, event="project.statusChanged", category="creators"):
    """A project moved from one status to another."""

    project_id: RecordId
    old_status: str
    new_status: str


class ProjectDeadlineApproaching(TenantEvent, event="project.deadlineApproaching", category="creators"):
    """The deadline of a project is near."""

    project_id: RecordId
    days_remaining: Days


class CreatorMetricsAggregate(TenantEvent, event="creator.metricsAggregate", category="creators"):
    """The creators' figures of a period are to be summed up and reported."""

    period: Literal["daily", "weekly", "monthly"]


class CreatorEmailProcessQueue(TenantEvent, event="creator.email.processQueue", category="creators"):
    """Emails to creators that wait in the queue are to be sent, a batch at a time."""

    batch_size: int | None = Field(default=None, description="At most so many emails.")


class CreatorEmailRetryFailed(TenantEvent, event="creator.email.retryFailed", category="creators"):
    """Emails to creators that could not be sent are to be tried again."""

    batch_size: int | None = Field(default=None, description="At most so many emails.")


class CreatorSendReminders(TenantEvent, event="creator.sendReminders", category="creators"):
    """All creators for whom a reminder of one kind is due are to be reminded."""

    reminder_type: Literal["delivery", "deadline", "noResponse", "abandoned"]


class OnboardingCheck(TenantEvent, event="onboarding.check", category="creators"):
    """Onboardings that do not get on are to be found."""
