"""The event of a task of Django's Tasks framework. It needs no Django, so that whoever shows runs knows it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from cgk_tasks.events.base import INTERNAL, TenantEvent
from cgk_tasks.events.fields import JsonArray, PersonalData, Searchable, Sensitive, Timestamp

DJANGO_TASK: Final = "django.task"


class DjangoTask(TenantEvent, event=DJANGO_TASK, category=INTERNAL):
    """A task of Django is to run: the function at this path, with these arguments, as it was enqueued."""

    task: Annotated[str, Searchable(), Field(description="Path of the task, such as shop.tasks.send_receipt.")]
    args: Annotated[JsonArray, Sensitive()]
    kwargs: PersonalData
    backend: Annotated[str, Field(description="Alias of the backend in the setting TASKS.")]
    queue_name: str
    priority: int
    run_after: Timestamp | None = None
