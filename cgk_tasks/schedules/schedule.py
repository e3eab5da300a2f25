"""`Schedule`: an entry of the table, and the registry of all entries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, ConfigurationError, InvalidOptionError
from cgk_tasks.events.registry import get_event, parse_event
from cgk_tasks.runs.text import text_of
from cgk_tasks.schedules.cron import Timing, timing

Scope = Literal["every active tenant", "platform"]
Misfire = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "cancel_old"]

EVERY_TENANT: Final[Scope] = "every active tenant"
PLATFORM: Final[Scope] = "platform"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PROBE: Final = "probe"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to send which event, for whom.

    cron: five fields, or `every 30s`. timezone: IANA. event, payload: what is sent; the payload in wire form, without
    the tenant. scope: one run for every active tenant, or one for the platform itself (tenant `platform`).
    misfire: what becomes of ticks that were missed for more than a minute: none runs (`skip`), only the last (`once`),
    or each that is not older than `max_age` seconds (`all`). overlap: what a tick does for a tenant whose earlier run
    of this schedule is still open: run beside it (`allow`), not at all (`skip`), or after cancelling it (`cancel_old`).
    spread: the tenants start over so many seconds, each always at the same offset. replaces: ids of the scheduled tasks
    that this entry stands for, where an application comes from those.

    Raises ConfigurationError for an entry that could never work.
    """

    name: str
    cron: str
    timezone: str
    event: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    scope: Scope = EVERY_TENANT
    misfire: Misfire = "once"
    overlap: Overlap = "skip"
    spread: float = 0.0
    max_age: float = 86_400.0
    queue: str | None = None
    priority: int | None = None
    replaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"{self.name!r} is not a name for a schedule.", hint="Use letters, digits, '.', '_', '-'."
            )
        for option, kinds in (("scope", Scope), ("misfire", Misfire), ("overlap", Overlap)):
            if getattr(self, option) not in get_args(kinds):
                raise ConfigurationError(
                    f"Schedule {self.name!r}: {option} is {getattr(self, option)!r}.",
                    hint=f"There are: {', '.join(map(repr, get_args(kinds)))}.",
                )
        for option in ("spread", "max_age"):
            if not 0 <= getattr(self, option) <= LONGEST_WAIT_SECONDS:
                raise ConfigurationError(
                    f"Schedule {self.name!r}: {option} is {text_of(getattr(self, option))}.",
                    hint="It is a number of seconds, from 0 to a hundred years.",
                )
        try:
            timing(self.cron, self.timezone)
        except InvalidOptionError as exc:
            raise ConfigurationError(f"Schedule {self.name!r}: {exc}") from None
        if not get_event(self.event).durable:
            raise ConfigurationError(
                (
                    f"Schedule {self.name!r} sends {self.event!r}, which leaves no record, "
                    "so its ticks could not be kept "
                    "from happening twice."
                ),
                hint="Send an event that is durable.",
            )
        payload_text(self.event, self.payload)

    @property
    def timing(self) -> Timing:
        return timing(self.cron, self.timezone)


def payload_text(event: str, payload: Mapping[str, Any], tenant_id: str = _PROBE) -> str:
    """The payload of one tenant as JSON. Raises UnknownEventError, PayloadInvalidError."""
    return parse_event(event, {**payload, "tenantId": tenant_id}).to_json().decode()


def payload_after_tenant(event: str, payload: Mapping[str, Any]) -> str:
    """The payload as JSON from behind the tenant's id on: `{"tenantId":"acme` + this text is the whole of it."""
    text = payload_text(event, payload)
    begin = f'{{"tenantId":"{_PROBE}'
    assert text.startswith(begin)
    return text[len(begin) :]


_schedules: dict[str, Schedule] = {}

ALL_SCHEDULES: Final[Mapping[str, Schedule]] = MappingProxyType(_schedules)
"""Every known schedule by name: the table's, and those that the application defined."""


def add_schedules(*schedules: Schedule) -> Mapping[str, Schedule]:
    """Make schedules known; returns all that are. The same entry again (a reloaded module) changes nothing.

    Raises ConfigurationError for a name that stands for another event already.
    """
    for schedule in schedules:
        known = _schedules.get(schedule.name)
        if known is not None and known.event != schedule.event:
            raise ConfigurationError(
                f"The schedule {schedule.name!r} is defined twice: for {known.event!r} and for {schedule.event!r}.",
                hint="Rename one of them.",
            )
        _schedules[schedule.name] = schedule
    return ALL_SCHEDULES


def remove_schedule(name: str) -> None:
    """Forget a schedule; for tests."""
    _schedules.pop(name, None)
