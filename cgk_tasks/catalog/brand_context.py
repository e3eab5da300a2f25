"""What the AI features know about a brand."""

from typing import Literal

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import RecordId


class BrandContextProcessDocument(TenantEvent, event="brandContext.processDocument", category="brandContext"):
    """A document about the brand is to be read and indexed."""

    document_id: RecordId
    document_type: Literal["pdf", "url", "text"]


class BrandContextRefreshEmbeddings(TenantEvent, event="brandContext.refreshEmbeddings", category="brandContext"):
    """Embeddings are to be computed again, for one document or for all."""

    document_id: RecordId | None = None
    chunk_limit: int | None = Field(default=None, description="At most so many chunks.")


class BrandContextCleanup(TenantEvent, event="brandContext.cleanup", category="brandContext"):
    """Document chunks that nothing refers to any more are to be deleted."""

    max_age_hours: int | None = Field(default=None, description="Age in hours.")


class BrandContextStaleDetection(TenantEvent, event="brandContext.staleDetection", category="brandContext"):
    """Documents about the brand that are out of date are to be found."""

    max_age_days: int | None = Field(default=None, description="Number of days.")


class BriSync(TenantEvent, event="bri.sync", category="brandContext"):
    """New messages are to be read for the assistant."""

    source: Literal["gmail", "slack"]


class AgentMemoryDecay(TenantEvent, event="agent.memoryDecay", category="brandContext"):
    """What the assistant remembers and has not used for long is to count for less."""
