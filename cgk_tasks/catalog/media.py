"""Videos, and the library of digital assets."""

from typing import Literal

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import ByteCount, Days, RecordId, Seconds


class VideoUploadCompleted(TenantEvent, event="video.uploadCompleted", category="media"):
    """A video was uploaded in full."""

    video_id: RecordId
    project_id: RecordId
    creator_id: RecordId
    size: ByteCount
    duration: Seconds | None = None


class VideoTranscriptionStarted(TenantEvent, event="video.transcriptionStarted", category="media"):
    """The transcription of a video began."""

    video_id: RecordId
    language: str | None = None


class VideoTranscriptionCompleted(TenantEvent, event="video.transcriptionCompleted", category="media"):
    """The transcription of a video is ready."""

    video_id: RecordId
    transcript_url: str | None = None


class VideoAiGenerated(TenantEvent, event="video.aiGenerated", category="media"):
    """Something was generated from a video."""

    video_id: RecordId
    generation_type: Literal["thumbnail", "summary", "clips"]


class DamAssetUploaded(TenantEvent, event="dam.assetUploaded", category="media"):
    """An asset was added to the library."""

    asset_id: RecordId
    asset_type: Literal["image", "video", "document"]
    size: ByteCount
    project_id: RecordId | None = None


class DamGdriveSync(TenantEvent, event="dam.gdriveSync", category="media"):
    """Assets are to be copied from a Google Drive folder."""

    folder_id: RecordId | None = None
    full_sync: bool | None = Field(default=None, description="Everything, not only what changed.")


class DamRightsExpiry(TenantEvent, event="dam.rightsExpiry", category="media"):
    """Usage rights that end soon are to be found, for one asset or for all."""

    asset_id: RecordId | None = None
    days_to_expiry: Days | None = None


class DamExport(TenantEvent, event="dam.export", category="media"):
    """Assets are to be packed for download."""

    export_id: RecordId
    asset_ids: list[str]
    format: str | None = None


class DamFaceDetection(TenantEvent, event="dam.faceDetection", category="media"):
    """Faces are to be found in an asset."""

    asset_id: RecordId


class DamBulkIngest(TenantEvent, event="dam.bulkIngest", category="media"):
    """The files of finished projects are to be added to the library."""

    project_ids: list[str] | None = None
    limit: int | None = Field(default=None, description="At most so many at a time.")


class DamFaceScan(TenantEvent, event="dam.faceScan", category="media"):
    """Assets that nobody has looked for faces in yet are to be found and queued."""

    limit: int | None = Field(default=None, description="At most so many at a time.")
