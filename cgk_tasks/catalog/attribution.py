"""Which marketing led to which order."""

from typing import Literal

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Days, JsonObject, RecordId, Timestamp


class TouchpointRecorded(TenantEvent, event="touchpoint.recorded", category="attribution"):
    """A visitor came into contact with the brand's marketing."""

    touchpoint_id: RecordId
    session_id: str
    source: str
    medium: str | None = None
    campaign: str | None = None


class ConversionAttributed(TenantEvent, event="conversion.attributed", category="attribution"):
    """An order was credited to the touchpoints that led to it."""

    order_id: RecordId
    attribution_model: str
    touchpoints: int = Field(description="How many were credited.")


class AttributionRecalculate(TenantEvent, event="attribution.recalculate", category="attribution"):
    """Attribution is to be worked out again, for an order or for a span of time."""

    order_id: RecordId | None = None
    start_date: Timestamp | None = None
    end_date: Timestamp | None = None
    recalculate_days: Days | None = None


class AttributionSync(TenantEvent, event="attribution.sync", category="attribution"):
    """Advertising figures are to be read from a platform."""

    platform: Literal["tiktok", "meta", "google", "klaviyo", "fairing"]
    start_date: Timestamp | None = None
    end_date: Timestamp | None = None


class AttributionExport(TenantEvent, event="attribution.export", category="attribution"):
    """Attribution data is to be written to a file."""

    export_id: RecordId
    format: Literal["csv", "json"]
    filters: JsonObject | None = None


class AttributionAggregate(TenantEvent, event="attribution.aggregate", category="attribution"):
    """The attribution figures of a period are to be summed up."""

    period: Literal["daily", "weekly"]


class AttributionExportDue(TenantEvent, event="attribution.exportDue", category="attribution"):
    """Exports of attribution data that were asked for at intervals are to be started where they are due."""


class AttributionOrderReconcile(TenantEvent, event="attribution.orderReconcile", category="attribution"):
    """Orders are to be compared with the conversions that were credited for them."""

    start_date: Timestamp | None = None


class AttributionViewThroughSync(TenantEvent, event="attribution.viewThroughSync", category="attribution"):
    """Views of advertisements that led to an order without a click are to be read from the platforms."""

    start_date: Timestamp | None = None


class AttributionProcessUnattributed(TenantEvent, event="attribution.processUnattributed", category="attribution"):
    """Orders that nothing was credited for are to be tried again."""

    max_age_days: Days | None = None


class AttributionProcessWebhooks(TenantEvent, event="attribution.processWebhooks", category="attribution"):
    """Calls from advertising platforms that wait in the queue are to be processed, a batch at a time."""

    batch_size: int | None = Field(default=None, description="At most so many calls.")


class AttributionTrainModel(TenantEvent, event="attribution.trainModel", category="attribution"):
    """The model that credits touchpoints is to be trained again."""

    training_days: Days | None = None
