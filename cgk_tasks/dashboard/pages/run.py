"""The page of one run, and what can be done to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import urlsplit

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard import actions, audit, event_actions
from cgk_tasks.dashboard.data.log_lines import LEVELS, Level, LogFilter, as_text, log_of
from cgk_tasks.dashboard.data.run_record import RunRecord, run_record
from cgk_tasks.dashboard.data.told import told_by
from cgk_tasks.dashboard.display import as_json, namespace
from cgk_tasks.dashboard.links import schedule_path, trace_link, trace_of
from cgk_tasks.dashboard.live_marks import Topic, mark_of
from cgk_tasks.dashboard.pages.confirmed import Confirmed, NotConfirmedError
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.replay_view import ReplayView, Tried, replay_view
from cgk_tasks.dashboard.tracebacks import Traceback, traceback_of
from cgk_tasks.dashboard.value_tree import tree
from cgk_tasks.errors import CgkTasksError, ConfigurationError, SendError
from cgk_tasks.events.typed_values import shown
from cgk_tasks.monitoring.why import Why, why
from cgk_tasks.runs.tracing import TRACE

_LONGEST_SEARCH = 200


@dataclass(frozen=True, slots=True)
class ShownError:
    """An attempt's error. number: its place among those on record. address: of its trace, if that is on record."""

    number: int
    error: Mapping[str, Any]
    trace: Traceback | None
    address: str | None


@dataclass(frozen=True, slots=True)
class ShownValue:
    """A payload or a result, as a tree in HTML and as JSON."""

    tree: str
    json: str


class RunPage(Page):
    """Why it waits, timeline, waterfall, errors, payload, result, relatives, log lines; retry and cancel."""

    async def get(self, run_id: str) -> None:
        await self.show_run(run_id)

    async def show_run(
        self, run_id: str, *, problem: str = "", signalled: tuple[str, str] = ("", ""), tried: Tried | None = None,
        unconfirmed: bool = False,
    ) -> None:  # fmt: skip
        """The page; with what was wrong with a signal's name and payload, or with a replay, if it was so."""
        show_sensitive = self._may_see_personal_data and self.field("show") == "personal"
        if show_sensitive:
            await self.run_blocking(actions.record_view_of_personal_data, self.user, run_id)
        shows_all = self.field("steps") == "all"
        seen = await self.run_blocking(_mark, run_id)
        record = await self.run_blocking(run_record, run_id, show_sensitive=show_sensitive, all_steps=shows_all)
        held = None if record.is_closed else await self.run_blocking(_why, record)
        told = await self.run_blocking(told_by, record.id, record.hide)
        log_filter = self._log_filter()
        log = await self.run_blocking(log_of, record.id, record.hide, log_filter)
        history = await self.run_blocking(audit.lines, subject=record.id, limit=20)
        kept = {"steps": "all" if shows_all else "", "show": "personal" if show_sensitive else ""}
        self.show(
            "run.html", run=record, facts=record.facts, why=held, told=told, history=history, kept=kept,
            may_see=self._may_see_personal_data, shows_personal=show_sensitive, shows_all=shows_all,
            is_live=not (record.is_closed or show_sensitive or shows_all or problem or self.field("all")), seen=seen,
            payload=self._value(record.id, "payload", shown(record.facts["event"], record.payload), kept),
            result=self._value(record.id, "result", record.result, kept), errors=tuple(_errors(record)),
            log=log, log_filter=log_filter, levels=LEVELS, as_text=as_text, **_links(record),
            problem=problem, signalled=signalled, replay=self._replay(record, tried), unconfirmed=unconfirmed,
        )  # fmt: skip

    def _value(self, run_id: str, name: str, data: Any, kept: Mapping[str, str]) -> ShownValue:
        is_whole = self.field("all") == name
        address = "" if is_whole else namespace(self)["url"](f"/runs/{run_id}", all=name, **kept)
        return ShownValue(tree(data, name=name, all_address=f"{address}#{name}" if address else ""), as_json(data))

    def _log_filter(self) -> LogFilter:
        level, until = self.field("level"), self.whole_number("until", -1)
        return LogFilter(
            cast("Level", level) if level in LEVELS else "", self.field("find")[:_LONGEST_SEARCH],
            until if until >= 0 else None,
        )  # fmt: skip

    def _replay(self, record: RunRecord, tried: Tried | None) -> ReplayView | None:
        if not (record.is_closed and self.user.may("operator")):
            return None
        return replay_view(record.facts["event"], record.payload, tried, as_text=self.field("replay") == "json")

    @property
    def _may_see_personal_data(self) -> bool:
        return get_settings().dashboard_show_sensitive and self.user.may("admin")


def _mark(run_id: str) -> str:
    """Before the run is read: what changes in between is told."""
    try:
        return mark_of(Topic("run", str(uuid.UUID(run_id))))
    except ValueError:
        return ""


def _errors(record: RunRecord) -> Iterator[ShownError]:
    for number, error in enumerate(record.errors, 1):
        text, traced = error.get("traceback"), error.get(TRACE)
        address = _trace_address(record, traced) if traced else None
        yield ShownError(number, error, traceback_of(str(text)) if text else None, address)


def _trace_address(record: RunRecord, traceparent: Any) -> str | None:
    found = None if traceparent is None else str(traceparent)
    return trace_link(get_settings().trace_url, found, run_id=record.id, tenant_id=record.facts["tenant_id"])


def _links(record: RunRecord) -> dict[str, Any]:
    """Where the facts lead."""
    path, query = schedule_path(record.facts["schedule"] or "", record.facts["tenant_id"])
    address = _trace_address(record, trace_of(record.facts, record.errors))
    return {
        "schedule_path": path, "schedule_query": query, "trace_address": address,
        "trace_host": urlsplit(address).hostname if address else None,
    }  # fmt: skip


def _why(record: RunRecord) -> Why | None:
    """None if it has closed meanwhile. Its texts may quote error codes, and those the payload."""
    found = why(record.id)
    if found.state != record.state:
        return None
    if record.hide is None:
        return found
    return replace(found, gates=tuple(replace(gate, text=record.hide.text(gate.text)) for gate in found.gates))


class RetryRun(Page):
    """Runs a closed run again."""

    async def post(self, run_id: str) -> None:
        handle = await self.run_blocking(actions.retry, self.user, run_id)
        self.redirect_to(f"/runs/{handle.id}", f"This is the new run. It repeats run {run_id}.")


class CancelRun(Page):
    """Cancels an open run."""

    async def post(self, run_id: str) -> None:
        await self.run_blocking(actions.cancel, self.user, run_id)
        self.redirect_to(f"/runs/{run_id}", "Cancelled. A job that is running is interrupted within a second or two.")


class ReplayRun(Confirmed, RunPage):
    """Runs a closed run again with another payload, of a form or as JSON. One that does not fit comes back with what is
    wrong.
    """

    async def post(self, run_id: str) -> None:
        texts, text = self.texts("f."), self.texts("").get("payload")
        try:
            self.require_confirmed()
            if text is None:
                handle = await self.run_blocking(event_actions.replay_from_form, self.user, run_id, texts)
            else:
                handle = await self.run_blocking(actions.replay_edited, self.user, run_id, text)
        except CgkTasksError as exc:
            self.set_status(400)
            tried = Tried(exc, texts if text is None else None, text or "")
            await self.show_run(run_id, tried=tried, unconfirmed=isinstance(exc, NotConfirmedError))
            return
        self.redirect_to(f"/runs/{handle.id}", f"This is the new run. It repeats run {run_id} with another payload.")


class SignalRun(RunPage):
    """Sends a signal to an open run. One that does not fit comes back with what is wrong."""

    async def post(self, run_id: str) -> None:
        name, text = self.field("name"), self.field("payload")
        try:
            await self.run_blocking(actions.signal, self.user, run_id, name, text)
        except (ConfigurationError, SendError) as exc:
            self.set_status(400)
            await self.show_run(run_id, problem=str(exc), signalled=(name, text))
            return
        self.redirect_to(f"/runs/{run_id}", "The signal is sent. It is kept until the workflow takes it.")


class ReplayFromStep(Page):
    """Runs a closed workflow again from one of its steps."""

    async def post(self, run_id: str) -> None:
        handle = await self.run_blocking(actions.replay_from, self.user, run_id, self.whole_number("step", -1))
        self.redirect_to(f"/runs/{handle.id}", f"This is the new run. It repeats run {run_id} from a step.")
