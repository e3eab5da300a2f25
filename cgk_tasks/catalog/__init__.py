"""The catalog: every event of the platform as a typed model, one module a category; its schedules are in
`schedules.py`, its jobs in `jobs.py`.

An application may leave it out (CGK_CATALOG=none) or bring its own: a module that defines events, and may have ALIASES,
CATEGORY_ORDER, a module `schedules` with SCHEDULES and a module `jobs` with JOBS. Nothing here needs Celery, SQLAlchemy
or Redis.

A process uses few of the events, so the module of a category is imported when one of its events is first asked for, by
its name or by that of its class. EVENT_MODULES says where each is, TELEMETRY which are not durable; a catalog without
them imports all of its events itself. The types are in `__init__.pyi`.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from cgk_tasks.catalog.index import EVENT_MODULES
from cgk_tasks.catalog.index import TELEMETRY as TELEMETRY
from cgk_tasks.events.naming import class_name

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "review.reminder.scheduled": "review.reminder",
        "video.upload.completed": "video.uploadCompleted",
        "video.transcription.started": "video.transcriptionStarted",
        "video.transcription.completed": "video.transcriptionCompleted",
        "video.ai.generated": "video.aiGenerated",
        "dam.asset.uploaded": "dam.assetUploaded",
        "dam.gdrive.sync.requested": "dam.gdriveSync",
        "dam.rights.expiry.check": "dam.rightsExpiry",
        "dam.export.requested": "dam.export",
    }
)
"""Second spellings that senders use, each with the event's own name."""

CATEGORY_ORDER: Final = (
    "commerce",
    "reviews",
    "creators",
    "payouts",
    "attribution",
    "abTesting",
    "media",
    "subscriptions",
    "notifications",
    "system",
    "workflows",
    "brandContext",
    "googleFeed",
    "webhooks",
    "recovery",
    "analytics",
)
"""In which the categories are listed."""

_HOMES: Final = {
    **{class_name(event): module for event, module in EVENT_MODULES.items()},
    "ImageOptions": "cgk_tasks.catalog.google_feed",
    "JobEvent": "cgk_tasks.catalog.names",
    "JobPayload": "cgk_tasks.catalog.names",
}

__all__ = sorted(["ALIASES", "CATEGORY_ORDER", "EVENT_MODULES", "TELEMETRY", *_HOMES])  # noqa: PLE0605 - the tables above are the list


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
