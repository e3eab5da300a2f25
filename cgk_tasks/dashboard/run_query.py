"""What a search for runs means: the filter that its terms make, and what may be suggested."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

from cgk_tasks.dashboard.data.run_search import RunFilter, as_state
from cgk_tasks.dashboard.search_syntax import SearchError, Term, parse, write
from cgk_tasks.events.registry import all_events
from cgk_tasks.runs.models import CLOSED_STATES, OPEN_STATES, State

TERMS: Final[Mapping[str, str]] = {
    "tenant": "the tenant's id",
    "event": "the event; order.* is all that begin with order.",
    "job": "the job",
    "state": "one of the states of a run; waiting is pending or held, open and closed are all of those",
    "error": "the error code; HTTP_* is all that begin with HTTP_",
    "queue": "the queue",
    "since": "sent since then: 1h, 30m, 7d ago, or a time of UTC such as 2026-03-01T09:00",
    "until": "sent before then",
    "closed-since": "closed since then",
    "closed-until": "closed before then",
}
"""The names of terms, and what each is. What has no name is looked for in the searchable fields of payloads."""

STATE_GROUPS: Final[Mapping[str, frozenset[State]]] = {
    "waiting": frozenset({"pending", "held"}), "open": OPEN_STATES, "closed": CLOSED_STATES,
}  # fmt: skip
_FIELDS: Final = {
    "tenant": "tenant_id", "error": "error_code", "closed-since": "closed_since", "closed-until": "closed_until",
}  # fmt: skip
"""What the filter calls them, where it has another name."""
_TIMES: Final = frozenset({"since", "until", "closed-since", "closed-until"})
_AGO: Final = re.compile(r"(\d{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPANS: Final = ("15m", "1h", "24h", "7d", "30d")
_OLDER_FIELDS: Final = ("tenant", "event", "job", "state", "error", "since", "until")


def run_filter(text: str, now: datetime) -> RunFilter:
    """The filter that a search is. now: from when on times such as 1h are counted back. Raises SearchError."""
    values: dict[str, Any] = {}
    words: list[str] = []
    for term in parse(text, TERMS):
        if not term.name:
            words.append(term.value)
            continue
        field = _FIELDS.get(term.name, term.name)
        if field in values:
            raise SearchError(term.position, f"{term.name}: is there twice", hint="Leave one of them out.")
        values[field] = _READ.get(term.name, _as_it_is)(term, now)
    if isinstance(states := values.get("state"), frozenset):
        values |= {"state": None, "states": states}
    return RunFilter(**values, text=" ".join(words))


def fix_times(text: str, now: datetime) -> str:
    """The search with times that stay the same: `since:1h` becomes the moment that it is now. Raises SearchError."""
    run_filter(text, now)
    terms = parse(text, TERMS)
    return write([t._replace(value=_written(_time(t, now))) if t.name in _TIMES else t for t in terms])


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def _as_it_is(term: Term, now: datetime) -> str:  # noqa: ARG001 - as the others
    return term.value


def _state(term: Term, now: datetime) -> State | frozenset[State]:  # noqa: ARG001 - as the others
    state = as_state(term.value.lower()) or STATE_GROUPS.get(term.value.lower())
    if state is None:
        there_are = ", ".join((*get_args(State), *STATE_GROUPS))
        raise SearchError(term.position, f"there is no state {term.value[:40]!r}", hint=f"There are: {there_are}.")
    return state


def _time(term: Term, now: datetime) -> datetime:
    """A time as people and forms write it, in UTC unless it says otherwise; or how long ago it was."""
    try:
        if ago := _AGO.fullmatch(term.value):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(term.value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise SearchError(
            term.position, f"{term.name}: must be a time, not {term.value[:40]!r}",
            hint="Such as 1h, 30m or 7d for so long ago, or 2026-03-01T09:00.",
        ) from None  # fmt: skip


_READ: Final[Mapping[str, Callable[[Term, datetime], Any]]] = {"state": _state, **dict.fromkeys(_TIMES, _time)}


def search_text(query: str, older: Mapping[str, str]) -> str:
    """A search with what addresses of earlier releases had in fields of their own: tenant, event, within and such."""
    terms = [Term(name, older[name]) for name in _OLDER_FIELDS if older.get(name)]
    if older.get("within") in _SPANS:
        terms = [term for term in terms if term.name != "since"] + [Term("since", older["within"])]
    if older.get("text"):
        terms.append(Term("", older["text"]))
    return " ".join(filter(None, (query, write(terms))))


def search_for(**terms: str) -> str:
    """A search of these terms: `search_for(event="order.created", closed_since="24h")`."""
    return write([Term(name.replace("_", "-"), value) for name, value in terms.items()])


def with_state(text: str, state: str) -> str:
    """The search with this state, or (empty) with none, in place of its own. Raises SearchError."""
    terms = [term for term in parse(text, TERMS) if term.name != "state"]
    return write([*terms, *([Term("state", state)] if state else [])])


def only_id(text: str) -> str | None:
    """The run's id, if that is all that is looked for."""
    try:
        return str(uuid.UUID(text.strip())) if len(text.strip()) in {32, 36} else None
    except ValueError:
        return None


def suggestions(tenants: Iterable[str]) -> list[str]:
    """Terms that may be meant, for the search box."""
    events = sorted(model.event_name for model in all_events())
    return [
        *(f"state:{state}" for state in (*get_args(State), *STATE_GROUPS)),
        *(f"since:{span}" for span in _SPANS),
        *(f"closed-since:{span}" for span in _SPANS),
        *(write([Term("tenant", tenant)]) for tenant in tenants),
        *(write([Term("event", event)]) for event in events),
        *(f"{name}:" for name in ("error", "job", "queue", "until", "closed-until")),
    ]
