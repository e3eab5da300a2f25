"""The event of a job that has only a name: `queued.send__email` of the job `send-email`. Made at first use."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import Field

from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.events.base import EVENTS_BY_NAME, TenantEvent
from cgk_tasks.events.fields import PersonalData
from cgk_tasks.events.own_events import make_event

PREFIX: Final = "queued."
_PART: Final = r"[a-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(\.{_PART})*")
_LONGEST: Final = 100


class NamedJob(TenantEvent):
    """What a handler finds in `ctx.payload`. data: the payload that was enqueued. metadata: what its sender noted."""

    data: PersonalData = Field(default_factory=dict)
    metadata: PersonalData = Field(default_factory=dict)


def event_of(name: str) -> type[NamedJob]:
    """The event of the jobs of this name. Raises InvalidOptionError for what can be no name."""
    if not isinstance(name, str) or len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise InvalidOptionError(
            "name",
            f"must be like 'send-email', 'send_email' or 'email.send', and have at most {_LONGEST} characters, not "
            f"{name!r}",
        )
    event = PREFIX + name.replace("-", "__")
    model: Any = EVENTS_BY_NAME.get(event) or make_event(event, f"The job {name!r} was enqueued.", NamedJob)
    if not issubclass(model, NamedJob):
        raise InvalidOptionError("name", f"cannot be {name!r}: the application has an event {event!r} of its own")
    found: type[NamedJob] = model
    return found


def name_of(event: str) -> str | None:
    """The name of the jobs whose event this is; None for another event."""
    return event.removeprefix(PREFIX).replace("__", "-") if event.startswith(PREFIX) else None
