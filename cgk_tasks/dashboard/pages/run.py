"""The page of one run, and what can be done to it."""

from __future__ import annotations

from dataclasses import replace

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard import actions, audit, event_actions
from cgk_tasks.dashboard.data.log_lines import log_lines
from cgk_tasks.dashboard.data.run_record import RunRecord, run_record
from cgk_tasks.dashboard.data.told import told_by
from cgk_tasks.dashboard.pages.confirmed import Confirmed, NotConfirmedError
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.replay_view import ReplayView, Tried, replay_view
from cgk_tasks.errors import CgkTasksError, ConfigurationError, SendError
from cgk_tasks.events.typed_values import shown
from cgk_tasks.monitoring.why import Why, why


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
        record = await self.run_blocking(run_record, run_id, show_sensitive=show_sensitive, all_steps=shows_all)
        held = None if record.is_closed else await self.run_blocking(_why, record)
        told = await self.run_blocking(told_by, record.id, record.hide)
        lines = await self.run_blocking(log_lines, record.id, record.hide)
        history = await self.run_blocking(audit.lines, subject=record.id, limit=20)
        self.show(
            "run.html", run=record, facts=record.facts, why=held, told=told, log_lines=lines, history=history,
            may_see=self._may_see_personal_data, shows_personal=show_sensitive, shows_all=shows_all,
            shown_payload=shown(record.facts["event"], record.payload),
            problem=problem, signalled=signalled, replay=self._replay(record, tried), unconfirmed=unconfirmed,
        )  # fmt: skip

    def _replay(self, record: RunRecord, tried: Tried | None) -> ReplayView | None:
        if not (record.is_closed and self.user.may("operator")):
            return None
        return replay_view(record.facts["event"], record.payload, tried, as_text=self.field("replay") == "json")

    @property
    def _may_see_personal_data(self) -> bool:
        return get_settings().dashboard_show_sensitive and self.user.may("admin")


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
