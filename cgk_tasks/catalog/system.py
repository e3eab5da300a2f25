"""The platform's own housekeeping."""

from typing import Literal

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Days, MessageText, PersonalData, Timestamp


class SystemHealthCheck(TenantEvent, event="system.healthCheck", category="system"):
    """The health of the platform's parts is to be checked."""

    check_type: Literal["full", "critical"]


class SystemAlert(TenantEvent, event="system.alert", category="system"):
    """Something happened that the operators must hear about."""

    severity: Literal["critical", "error", "warning", "info"]
    title: str
    message: MessageText
    metadata: PersonalData | None = None


class SystemCleanup(TenantEvent, event="system.cleanup", category="system"):
    """Old data of one kind is to be deleted."""

    target: Literal["logs", "sessions", "cache", "temp"]
    older_than_days: Days | None = None


class SystemSyncRecovery(TenantEvent, event="system.syncRecovery", category="system"):
    """A synchronisation that stopped is to be brought up to date."""

    sync_type: str
    last_success_at: Timestamp | None = None
