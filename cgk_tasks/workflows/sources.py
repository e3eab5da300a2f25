"""What a workflow may wait for the first of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events.registry import parse_event_json
from cgk_tasks.runs.steps import Memo
from cgk_tasks.workflows.durations import sleep_seconds
from cgk_tasks.workflows.names import check_name
from cgk_tasks.workflows.results import decoded


@dataclass(frozen=True, slots=True)
class SignalSource:
    """kind: what its payload is read as."""

    signal: str
    kind: Any = Any


@dataclass(frozen=True, slots=True)
class TimerSource:
    seconds: float


@dataclass(frozen=True, slots=True)
class EventSource:
    """mail: the name of its mail."""

    event: str
    mail: str


Source = SignalSource | EventSource | TimerSource


@dataclass(frozen=True, slots=True)
class First:
    """What came first: its name among those that were waited for, and what it brought; None of a timer."""

    name: str
    value: Any = None


def signal_source(name: str, kind: Any = Any) -> SignalSource:
    """Raises ConfigurationError for what is no name."""
    check_name(name)
    return SignalSource(name, kind)


def timer_source(duration: float | timedelta) -> TimerSource:
    """Raises ConfigurationError for what is no duration."""
    return TimerSource(sleep_seconds("timer", duration))


def checked(name: str, sources: Mapping[str, Source]) -> Mapping[str, Source]:
    """Raises ConfigurationError where there is nothing to wait for."""
    check_name(name)
    if not sources or not all(isinstance(one, Source) for one in sources.values()):
        raise ConfigurationError(
            f"wait_any({name!r}) has nothing to wait for.",
            hint='Name what may come: wait_any("answer", yes=wf.signal("yes"), late=wf.timer(60)).',
        )
    return sources


def first_of(memo: Memo, sources: Mapping[str, Source]) -> First:
    """What came first, read as what it is. Raises PermanentError or PayloadInvalidError where it is not of the kind."""
    found = json.loads(memo.result or "{}")
    source = sources.get(found["first"])
    if isinstance(source, EventSource):
        return First(found["first"], parse_event_json(source.event, json.dumps(found["value"])))
    if not isinstance(source, SignalSource):
        return First(found["first"])
    return First(found["first"], decoded(json.dumps(found["value"]), source.kind, memo.name))


def mails_and_timers(sources: Mapping[str, Source]) -> tuple[dict[str, str], dict[str, float]]:
    """The names of mail, and the seconds, by how the workflow calls them."""
    mails = {
        name: one.mail if isinstance(one, EventSource) else one.signal
        for name, one in sources.items()
        if not isinstance(one, TimerSource)
    }
    timers = {name: one.seconds for name, one in sources.items() if isinstance(one, TimerSource)}
    return mails, timers
