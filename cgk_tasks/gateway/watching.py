"""Who watches runs, and what is looked for: one query for all streams of the process, some times a second, while there
are any.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

import anyio
import anyio.to_thread
import structlog
from anyio.lowlevel import RunVar

from cgk_tasks.gateway.problems import as_error
from cgk_tasks.gateway.watched_runs import Describer, Mark, SeenRun, runs_by_id, runs_of_tenants
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.runs.models import CLOSED_STATES
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.looking import Looks

log = structlog.get_logger("cgk_tasks.gateway")

EVERY_SECONDS: Final = 0.2
MARGIN: Final = timedelta(seconds=2)
"""A change that was made so long ago may be committed only now."""
MOST_OPEN: Final = 2_000
"""Of so many open runs a tenant's stream knows how they were told last, those that were told last."""

_MOST_DUE: Final = 5_000


class Message(NamedTuple):
    """What a stream is told: the id that a client comes back with, and the text. run_id: None, to list runs anew.

    is_last: the stream has nothing to tell after it.
    """

    id: str
    run_id: str | None = None
    text: bytes = b"{}"
    is_last: bool = False

    def encoded(self) -> bytes:
        event = b"" if self.run_id is not None else b"event: reset\n"
        return b"%sid: %s\ndata: %s\n\n" % (event, self.id.encode(), self.text)


class Stream:
    """One client's: what it asked for, how its runs were told to it last, and what is still to be told.

    run_id: the one run that it is about; None: all of the tenant, of this queue and event where they are given. since:
    when somebody last looked for it. told_until: the id of that time, once what was found then is told.
    """

    def __init__(
        self, tenant_id: str, run_id: str | None = None, *, queue: str | None = None, event: str | None = None
    ) -> None:
        self.tenant_id, self.run_id = tenant_id, run_id
        self.since: datetime | None = None
        self.marks: dict[str, Mark] = {}
        self.is_over = False
        self.told_until: str | None = None
        self._queue, self._event = queue, event
        self._due: dict[str | None, Message] = {}
        self._some = asyncio.Event()

    def wants(self, run: SeenRun) -> bool:
        return (
            run.tenant_id == self.tenant_id
            and self.run_id in {None, run.id}
            and self._queue in {None, run.queue}
            and self._event in {None, run.event}
        )

    def changed(self, runs: Sequence[SeenRun]) -> list[SeenRun]:
        """Those that it was told otherwise or not at all."""
        return [run for run in runs if self.wants(run) and self.marks.get(run.id) != run.mark]

    def tell(self, messages: Sequence[Message]) -> None:
        """Of a run only the last is sent, at the place of the last: so ids come in the order of time."""
        for message in messages:
            self._due.pop(message.run_id, None)
            self._due[message.run_id] = message
            self.is_over = self.is_over or message.is_last
        if len(self._due) > _MOST_DUE:  # the client does not read
            self._due = {None: Message(messages[-1].id)}
        if self._due:
            self._some.set()

    def end(self) -> None:
        """Nothing more comes, once what is due is sent."""
        self.is_over = True
        self._some.set()

    @property
    def is_done(self) -> bool:
        return self.is_over and not self._due

    async def due(self, seconds: float) -> list[Message]:
        """What is to be told, as soon as there is something; nothing if that takes longer."""
        with anyio.move_on_after(seconds):
            await self._some.wait()
        self._some.clear()
        due, self._due = list(self._due.values()), {}
        return due


Look = Callable[[Sequence[Stream], Describer], list[tuple[Stream, list[Message]]]]
"""What has changed for these streams. Raises psycopg.Error."""


def look_at_runs(streams: Sequence[Stream], describer: Describer) -> list[tuple[Stream, list[Message]]]:
    """Of streams that are about one run each."""
    seen = {run.id: run for run in runs_by_id({stream.run_id for stream in streams if stream.run_id is not None})}
    changes = [
        (stream, run)
        for stream in streams
        if (run := seen.get(stream.run_id or "")) is not None and stream.changed([run])
    ]
    texts = describer.texts(list({run.id: run for _stream, run in changes}.values()))
    for stream, run in changes:
        stream.marks[run.id] = run.mark
    return [
        (stream, [Message(id_of(run.mark), run.id, texts[run.id], is_last=run.is_closed)]) for stream, run in changes
    ]


def look_at_tenants(streams: Sequence[Stream], describer: Describer) -> list[tuple[Stream, list[Message]]]:
    """Of streams that are about a tenant's runs."""
    now = database_now()
    recent = runs_of_tenants(sorted({stream.tenant_id for stream in streams}), _since(streams, now))
    seen = {run.id: run for run in sorted(recent.runs, key=_when)}
    # What was open and is neither on nor new any more has ended, waits for a retry, or is held.
    elsewhere = {run_id for stream in streams for run_id in _open_of(stream)} - seen.keys()
    seen |= {run.id: run for run in runs_by_id(elsewhere)}
    by_tenant: dict[str, list[SeenRun]] = defaultdict(list)
    for run in seen.values():
        by_tenant[run.tenant_id].append(run)
    changes = [(stream, stream.changed(by_tenant[stream.tenant_id])) for stream in streams]
    texts = describer.texts(list({run.id: run for _stream, runs in changes for run in runs}.values()))
    found = []
    for stream, runs in changes:
        before = cursor_of(stream.since or now)
        messages = [Message(before, run.id, texts[run.id]) for run in runs]
        if stream.tenant_id in recent.overrun and runs:
            messages.append(Message(before))
        _note(stream, runs, seen, now)
        if messages:  # whoever has the last of them has all until now
            messages[-1] = messages[-1]._replace(id=cursor_of(now))
            found.append((stream, messages))
    return found


def _when(run: SeenRun) -> tuple[bool, float]:
    """The order of closings; then what is open: a link of a chain that is replayed has its old id."""
    return run.closed_at is None, 0.0 if run.closed_at is None else run.closed_at.timestamp()


def id_of(mark: Mark) -> str:
    """The id of a message about one run."""
    state, attempt, told_at = mark
    return f"{state}.{attempt}.{'' if told_at is None else cursor_of(told_at)}"


def cursor_of(moment: datetime) -> str:
    """A time as the id of a message: microseconds since 1970."""
    return str(round(moment.timestamp() * 1_000_000))


def _since(streams: Sequence[Stream], now: datetime) -> datetime:
    return min((stream.since for stream in streams if stream.since is not None), default=now) - MARGIN


def _open_of(stream: Stream) -> list[str]:
    return [run_id for run_id, (state, *_) in stream.marks.items() if state not in CLOSED_STATES]


def _note(stream: Stream, told: Sequence[SeenRun], seen: dict[str, SeenRun], now: datetime) -> None:
    """How its runs are told now. One that has ended is remembered for as long as looks find it."""
    for run in told:
        stream.marks.pop(run.id, None)
        stream.marks[run.id] = run.mark
    stream.since = now
    for run_id in [one for one, (state, *_) in stream.marks.items() if state in CLOSED_STATES and one not in seen]:
        del stream.marks[run_id]
    is_open = _open_of(stream)
    for run_id in is_open[: max(0, len(is_open) - MOST_OPEN)]:
        del stream.marks[run_id]


class Watch:
    """The streams of one kind in this event loop. A task looks for them, from the first to the last."""

    def __init__(self, look: Look) -> None:
        # Not of those of requests: the looks do not wait until one of forty slow requests is answered.
        thread, describer = anyio.CapacityLimiter(1), Describer()
        self._looks: Looks[Stream, list[tuple[Stream, list[Message]]]] = Looks(
            lambda streams: look(streams, describer), _tell, every_seconds=EVERY_SECONDS,
            in_thread=partial(anyio.to_thread.run_sync, limiter=thread),
            away=RecurringWarning(log, "streams_not_fed", "streams_fed_again"), reason=lambda exc: str(as_error(exc)),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._looks)

    def open(self, stream: Stream) -> AbstractContextManager[None]:
        """Tell the stream what changes, for the length of a block."""
        return self._looks.open(stream)

    def end_all(self) -> None:
        """End every stream: the server is about to stop."""
        for stream in self._looks:
            stream.end()


def _tell(streams: Sequence[Stream], found: Sequence[tuple[Stream, list[Message]]]) -> None:
    for stream, messages in found:
        stream.tell(messages)
    for stream in streams:
        stream.told_until = None if stream.since is None else cursor_of(stream.since)


class Watches(NamedTuple):
    """Those of an event loop: streams about one run, and streams about a tenant's runs."""

    runs: Watch
    tenants: Watch

    def of(self, stream: Stream) -> Watch:
        return self.tenants if stream.run_id is None else self.runs


_WATCHES: Final[RunVar[Watches]] = RunVar("cgk_watches")


def watches() -> Watches:
    """Those of the event loop that this runs in."""
    found = _WATCHES.get(None)
    if found is None:
        found = Watches(Watch(look_at_runs), Watch(look_at_tenants))
        _WATCHES.set(found)
    return found


def end_streams() -> None:
    """End all streams of this event loop, so that its server need not wait for them."""
    for watch in watches():
        watch.end_all()
