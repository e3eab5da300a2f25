"""Automations that the tenant's users set up themselves."""

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Days, RecordId


class WorkflowTriggered(TenantEvent, event="workflow.triggered", category="workflows"):
    """The trigger of a workflow fired for an entity."""

    workflow_id: RecordId
    trigger_id: RecordId
    entity_type: str
    entity_id: RecordId


class WorkflowAction(TenantEvent, event="workflow.action", category="workflows"):
    """One action of a running workflow is to be carried out."""

    execution_id: RecordId
    action_id: RecordId
    action_type: str


class WorkflowScheduledAction(TenantEvent, event="workflow.scheduledAction", category="workflows"):
    """Workflow actions whose time has come are to be carried out, a batch at a time."""

    batch_size: int | None = Field(default=None, description="At most so many actions.")


class WorkflowTimeElapsed(TenantEvent, event="workflow.timeElapsed", category="workflows"):
    """Workflows that wait for time to pass are to be checked."""

    entity_type: str | None = None


class WorkflowCleanup(TenantEvent, event="workflow.cleanup", category="workflows"):
    """Records of old workflow executions are to be deleted."""

    retention_days: Days | None = None


class EscalationCheck(TenantEvent, event="escalation.check", category="workflows"):
    """Matters that have waited too long for an answer are to be escalated."""
