"""How a run went, on one axis of time: its waits in the queue, attempts, pauses, steps and child runs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cgk_tasks.dashboard.charts import Line, Look, Span, waterfall
from cgk_tasks.dashboard.display import took, utc

if TYPE_CHECKING:
    from cgk_tasks.dashboard.data.relatives import Relative
    from cgk_tasks.runs.shown_steps import ShownStep

MOST_ENTRIES: Final = 120
"""No more are shown. Left out are those in the middle that ended well."""

_FIRST, _NOT_WELL = 40, 20
_FAILED: Final = frozenset({"failed", "timed_out", "died"})
_WAITS: Final = frozenset({
    "queue", "pause", "delay", "children", "sleep", "signal", "event", "any", "invoke", "gather",
})  # fmt: skip
"""Kinds of entries in which no worker does anything."""

_A_TRANSACTION: Final = timedelta(seconds=1)
"""One that notes a step takes no longer, even on a busy machine."""
_DELAY_DRAWN: Final = 3
"""A delay that a run was sent with is drawn unless it is so many times as long as everything after it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of a run. ends: None while it goes on. has_begin: False where it is only known when it ended.

    step, child: what it is about, if it is one of those. detail: what else is to be said.
    """

    what: str
    kind: str
    state: str
    begins: datetime
    ends: datetime | None
    detail: str = ""
    step: ShownStep | None = None
    child: Relative | None = None
    has_begin: bool = True

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it goes on, and where that is not known."""
        return (self.ends - self.begins).total_seconds() if self.ends and self.has_begin else None

    @property
    def is_well(self) -> bool:
        """Whether it is over and did not fail."""
        return self.ends is not None and self.state not in _FAILED


@dataclass(frozen=True, slots=True)
class Waterfall:
    """What the page shows. entries: by when they began. left_out: how many are not among them."""

    entries: tuple[Entry, ...]
    left_out: int
    picture: str


def waterfall_of(
    facts: Mapping[str, Any],
    errors: Sequence[Mapping[str, Any]],
    relatives: Iterable[Relative],
    steps: Sequence[ShownStep],
    steps_in_all: int,
    now: datetime,
    *,
    shows_all: bool = False,
) -> Waterfall:
    """The waterfall of a run. Whatever is to be hidden of its texts must be hidden already.

    shows_all: its table has all entries that there are. The picture never has more than MOST_ENTRIES.
    """
    found = [
        *_before(facts, errors, steps),
        *_failures(facts, errors, has_steps=bool(steps)),
        *_afterwards(facts, errors, has_steps=bool(steps)),
        *map(_step, steps),
        *(_child(one) for one in relatives if one.relation == "child"),
    ]
    invoked = sorted(one.began_at for one in steps if one.kind == "invoke")
    found.sort(key=partial(_order, invoked))
    some, missing = _some(found), steps_in_all - len(steps)
    entries = found if shows_all else some
    picture = _drawn(some, facts, now, len(found) - len(some) + missing)
    return Waterfall(tuple(entries), len(found) - len(entries) + missing, picture)


def _order(invoked: Sequence[datetime], entry: Entry) -> tuple[datetime, bool, int]:
    """By when they began. A child is made in the transaction that notes the step which invokes it, and may be the older
    one by some milliseconds: it comes after that step all the same. invoked: when such steps began.
    """
    begins = entry.begins
    if entry.child is not None:
        place = bisect_left(invoked, begins)
        if place < len(invoked) and invoked[place] - begins < _A_TRANSACTION:
            begins = invoked[place]
    return begins, entry.child is not None, entry.step.number if entry.step else 0


def _started(facts: Mapping[str, Any]) -> datetime | None:
    """When the last attempt began. A claim that only held the run has left a time too, and no attempt."""
    started: datetime | None = facts["started_at"]
    return started if facts["attempt"] > 0 or facts["state"] == "retrying" else None


def _before(
    facts: Mapping[str, Any], errors: Sequence[Mapping[str, Any]], steps: Sequence[ShownStep]
) -> Iterator[Entry]:
    """From the send to the first attempt."""
    sent, state, ended = facts["created_at"], facts["state"], facts["closed_at"]
    due, began = max(facts["run_at"], sent), _first_begin(facts, errors, steps)
    if began is not None and (errors or due > began or began != _started(facts)):
        # It waited or was put off since, and when it was due first is not on record any more.
        yield Entry("In queue", "queue", "done", sent, max(sent, began), "From the send to its first attempt.")
        return
    over = began or ended
    if due > sent and over is None and state == "scheduled":
        yield Entry("Not due", "delay", "waiting", sent, None, f"Until {utc(due)} UTC.")
        return
    if due > sent:
        is_cut_off = over is not None and over < due
        yield Entry("Not due", "delay", state if is_cut_off else "done", sent, min(due, over or due))
    if over is None:
        yield Entry("In queue", "queue", state, due, None)
    elif over >= due:
        yield Entry("In queue", "queue", "done" if began else state, due, over)


def _first_begin(
    facts: Mapping[str, Any], errors: Sequence[Mapping[str, Any]], steps: Sequence[ShownStep]
) -> datetime | None:
    failed = [_time(errors[0].get("began_at")) or _time(errors[0]["at"])] if errors else []
    moments = [*failed, *(step.began_at for step in steps[:1]), _started(facts)]
    return min((moment for moment in moments if moment is not None), default=None)


def _failures(facts: Mapping[str, Any], errors: Sequence[Mapping[str, Any]], *, has_steps: bool) -> Iterator[Entry]:
    """Attempts that failed, with the pauses between them. A pause's end is on record for the last one alone, so it
    lasts until the next attempt here.
    """
    before: datetime | None = None
    for place, error in enumerate(errors):
        at, began = _time(error["at"]), _time(error.get("began_at"))
        started = facts["started_at"]
        if began is None and place == len(errors) - 1 and started is not None and started <= at:
            began = started
        if before is not None and place == 1 and facts["errors_left_out"]:
            what = f"{facts['errors_left_out']:,} more attempts"
            yield Entry(what, "attempt", "failed", before, began or at, "Their errors are not kept.")
        elif before is not None and not has_steps:
            yield Entry("Pause", "pause", "done", before, began or at)
        yield _failure(error, began, at, has_steps=has_steps)
        before = at


def _failure(error: Mapping[str, Any], began: datetime | None, at: datetime, *, has_steps: bool) -> Entry:
    detail = f"{error.get('code') or ''}: {error.get('message') or ''}"
    if began is None and not has_steps:
        detail += " (When it began is not on record.)"
    is_death = error.get("kind") == "death"
    what = "Leg" if has_steps else "Attempt" if is_death else f"Attempt {error.get('attempt', '')}"
    return Entry(
        f"{what}, its process died" if is_death else f"{what} that failed" if has_steps else what,
        "leg" if has_steps else "attempt", "died" if is_death else "failed", began or at, at, detail,
        has_begin=began is not None,
    )  # fmt: skip


def _afterwards(facts: Mapping[str, Any], errors: Sequence[Mapping[str, Any]], *, has_steps: bool) -> Iterator[Entry]:
    """What came after the last error, or all there is of a run without one."""
    started, ended, state = _started(facts), facts["closed_at"], facts["state"]
    failed = _time(errors[-1]["at"]) if errors else None
    is_later = started is not None and state != "held" and (failed is None or started > failed)
    if is_later and (ended is not None or state == "running"):
        assert started is not None
        if failed is not None and not has_steps:
            due = min(max(facts["run_at"], failed), started)
            yield Entry("Pause", "pause", "done", failed, due)
            yield Entry("In queue", "queue", "done", due, started)
        yield _last_attempt(facts, started, ended, has_steps=has_steps)
    elif state == "retrying" and not has_steps:
        yield Entry(
            "Pause",
            "pause",
            "waiting",
            failed or started or facts["created_at"],
            None,
            f"Until {utc(facts['run_at'])} UTC.",
        )
    elif state in {"pending", "held"} and (failed is not None or has_steps):
        again = facts["run_at"] if failed is None else max(facts["run_at"], failed)
        if failed is not None and not has_steps:
            yield Entry("Pause", "pause", "done", failed, again)
        yield Entry("In queue", "queue", state, again, None)
    elif ended is not None and state != "failed" and failed is not None and not has_steps:
        yield Entry("Pause", "pause", state, failed, ended)


def _last_attempt(facts: Mapping[str, Any], started: datetime, ended: datetime | None, *, has_steps: bool) -> Entry:
    state = "done" if facts["state"] == "completed" else facts["state"]
    if state == "running" and facts["worker_id"] is None:
        return Entry("Waits for its children", "children", "waiting", started, None)
    what = "Last leg" if has_steps else f"Attempt {facts['attempt'] - facts['deaths'] or 1}"
    return Entry(what, "leg" if has_steps else "attempt", state, started, ended)


def _step(step: ShownStep) -> Entry:
    detail = ""
    if step.state == "waiting":
        more = f" and {len(step.awaits) - 3} more" if len(step.awaits) > 3 else ""
        awaited = f" for {', '.join(step.awaits[:3])}{more}" if step.awaits else ""
        until = f", until {utc(step.until)} UTC" if step.until else ""
        detail = f"Waits{awaited} since {utc(step.began_at)} UTC{until}."
    elif step.ended_at is None and step.until is not None:
        detail = f"It is tried again at {utc(step.until)} UTC."
    return Entry(step.label, step.kind, step.state, step.began_at, step.ended_at, detail, step=step)


def _child(one: Relative) -> Entry:
    return Entry(one.job or one.event, "child run", one.state, one.created_at, one.closed_at, child=one)


def _some(entries: list[Entry]) -> list[Entry]:
    """The first and the last of very many, and between them those that did not end well."""
    if len(entries) <= MOST_ENTRIES:
        return entries
    last = MOST_ENTRIES - _FIRST - _NOT_WELL
    between = [entry for entry in entries[_FIRST : len(entries) - last] if not entry.is_well]
    return [*entries[:_FIRST], *between[:_NOT_WELL], *entries[-last:]]


def _drawn(entries: Sequence[Entry], facts: Mapping[str, Any], now: datetime, left_out: int) -> str:
    begin = min((entry.begins for entry in entries), default=facts["created_at"])
    end = max(facts["closed_at"] or now, begin)
    delay = next((entry for entry in entries if entry.kind == "delay" and entry.ends is not None), None)
    said = ""
    if delay is not None and delay.ends and delay.ends - begin > _DELAY_DRAWN * max(end - delay.ends, timedelta(0)):
        begin, said = delay.ends, f" It was sent at {utc(facts['created_at'])} UTC; this begins when it was due."
        entries = [entry for entry in entries if entry is not delay]
    failed = sum(entry.state in _FAILED for entry in entries)
    described = (
        f"{len(entries)} lines from {utc(begin)} to {utc(end)} UTC, {took((end - begin).total_seconds())} in all; "
        f"{failed} failed.{f' {left_out:,} more in the middle are left out.' if left_out else ''}{said}"
        " The table below has the same."
    )
    lines = [_line(entry, end) for entry in entries]
    return waterfall(lines, begin, end, name="waterfall", title="How the run went", description=described)


def _line(entry: Entry, end: datetime) -> Line:
    ends, is_on = entry.ends or end, entry.ends is None
    label, child = entry.what, entry.child
    look: Look = "failed" if entry.state in _FAILED else "wait" if _is_wait(entry) else "work"
    spans: tuple[Span, ...] = (Span(entry.begins, ends, look, is_on),)
    if child is not None:
        label = f"↳ {label}"
        if child.started_at is not None:
            work = Span(child.started_at, ends, look, is_on)
            spans = (Span(entry.begins, child.started_at, "wait"), work)
    return Line(label, spans, _note(entry, end))


def _is_wait(entry: Entry) -> bool:
    is_unclaimed = entry.child is not None and entry.child.started_at is None
    return entry.kind in _WAITS or entry.state == "waiting" or is_unclaimed


def _note(entry: Entry, end: datetime) -> str:
    step = entry.step
    if entry.ends is None:
        awaited = f" for {step.awaits[0]}" if step is not None and step.state == "waiting" and step.awaits else ""
        return f"{entry.state}{awaited}, {took((end - entry.begins).total_seconds())} so far"
    words = [] if entry.state in {"done", "completed"} else [entry.state.replace("_", " ")]
    if entry.has_begin:
        words.append(took(entry.seconds))
    return f"{'✕ ' if entry.state in _FAILED else ''}{', '.join(words)}"


def _time(text: Any) -> Any:
    """A time out of an error's entry."""
    return datetime.fromisoformat(str(text)) if text else None
