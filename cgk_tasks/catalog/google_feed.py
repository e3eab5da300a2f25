"""The product feed for Google Merchant Center."""

from typing import Literal

from pydantic import Field

from cgk_tasks.events.base import TenantEvent, WireModel
from cgk_tasks.events.fields import RecordId


class GoogleFeedSync(TenantEvent, event="googleFeed.sync", category="googleFeed"):
    """The product feed is to be brought up to date."""

    full_sync: bool | None = Field(default=None, description="Everything, not only what changed.")
    triggered_by: Literal["schedule", "manual", "webhook"] | None = None


class GoogleFeedProductUpdate(TenantEvent, event="googleFeed.productUpdate", category="googleFeed"):
    """One product of the feed is to be updated or removed."""

    product_id: RecordId
    action: Literal["update", "delete"]
    variant_id: RecordId | None = None


class ImageOptions(WireModel):
    """How to prepare the image."""

    remove_background: bool | None = None
    target_width: int | None = Field(default=None, description="In pixels.")
    target_height: int | None = Field(default=None, description="In pixels.")
    format: Literal["jpeg", "png", "webp"] | None = None
    quality: int | None = Field(default=None, description="1 to 100.")


class GoogleFeedImageOptimize(TenantEvent, event="googleFeed.imageOptimize", category="googleFeed"):
    """A product image is to be prepared for the feed."""

    product_id: RecordId
    image_url: str
    options: ImageOptions | None = None
