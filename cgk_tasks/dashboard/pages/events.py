"""Events: their list, the page of one, and the form that sends one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cgk_tasks.dashboard import event_actions
from cgk_tasks.dashboard.access.authorization import SAFE_METHODS
from cgk_tasks.dashboard.data.dead_letters import MOST_COUNTED
from cgk_tasks.dashboard.data.events_and_jobs import event_view, listed_events
from cgk_tasks.dashboard.data.tenants import tenant_ids
from cgk_tasks.dashboard.data.work import SPANS, work_of_event
from cgk_tasks.dashboard.data.work_charts import charts_of_work
from cgk_tasks.dashboard.display import segment
from cgk_tasks.dashboard.event_actions import Sent
from cgk_tasks.dashboard.event_form import FormError, controls_of
from cgk_tasks.dashboard.form_fields import fields_of
from cgk_tasks.dashboard.pages.confirmed import Confirmed, NotConfirmedError
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.roles import Role
from cgk_tasks.dashboard.run_query import search_for
from cgk_tasks.errors import (
    CgkTasksError,
    InvalidOptionError,
    InvalidTenantError,
    StoreError,
    TenantMissingError,
    UnknownEventError,
    UnknownTenantError,
)

_OF_TENANT: Final = (InvalidTenantError, TenantMissingError, UnknownTenantError)
_SAID: Final[Mapping[str, str]] = {
    "accepted": "Sent. This is its run.",
    "deduplicated": "Nothing new was sent: an earlier send with this idempotency key made this run.",
    "merged": "Sent. It became a part of this run, which waits for more.",
    "skipped": "Nothing was sent: this run is still open, and the job may have only one.",
}
_NO_RUN: Final[Mapping[str, str]] = {
    "accepted": "Sent. Runs of this event leave no record.",
    "skipped": "Nothing was sent: the rate limit of the job left no room for it.",
}


class EventsPage(Page):
    """The list, with what a day brought."""

    async def get(self) -> None:
        events = await self.run_blocking(listed_events)
        text, only = self.field("text"), self.field("only")
        shown = [
            one for one in events
            if text.lower() in f"{one.name} {one.category} {' '.join(one.jobs)}".lower()
            and (only != "jobs" or one.is_handled) and (only != "day" or one.day is not None)
        ]  # fmt: skip
        self.show("events.html", events=shown, total=len(events), text=text, only=only, search_for=search_for)


class EventPage(Page):
    """One event: its fields, who handles it, and how its runs went."""

    async def get(self, name: str) -> None:
        chosen = self.field("span") if self.field("span") in SPANS else "24h"
        view = await self.run_blocking(event_view, name)
        if view.name != name:  # another spelling of it
            self.redirect_to(f"/events/{segment(view.name)}", span=self.field("span"))
            return
        work = await self.run_blocking(work_of_event, name, SPANS[chosen])
        if view.model is None and not view.is_handled and (work is None or not work.whole.counts.accepted):
            raise UnknownEventError(name)
        charts = list(charts_of_work(work.bars, work.whole, SPANS[chosen].bar, is_job=False)) if work else []
        self.show(
            "event.html", event=view, work=work, charts=charts, spans=SPANS, chosen=chosen, search_for=search_for,
            found=search_for(event=name), own_path=f"/events/{segment(name)}", is_job=False, most_counted=MOST_COUNTED,
        )  # fmt: skip


class SendEvent(Confirmed):
    """The form that sends an event, and what it does. Nobody but operators needs to see it."""

    role_to_look: Role = "operator"

    async def get(self, name: str) -> None:
        await self.show_form(name, {"tenant": self.field("tenant")})

    async def post(self, name: str) -> None:
        given = self.texts("")
        try:
            self.require_confirmed()
            sent = await self.run_blocking(self._send, name, given)
        except StoreError:
            raise
        except CgkTasksError as exc:
            self.set_status(400)
            await self.show_form(name, given, exc)
            return
        self._show_sent(name, sent)

    def _send(self, name: str, given: Mapping[str, str]) -> Sent:
        tenant = given.get("tenant", "").strip()
        options = {option.removeprefix("o."): text for option, text in given.items() if option.startswith("o.")}
        if "payload" in given:
            return event_actions.send_json(self.user, name, tenant, given["payload"], options)
        texts = {control: text for control, text in given.items() if control.startswith("f.")}
        return event_actions.send_form(self.user, name, tenant, texts, options)

    def _show_sent(self, name: str, sent: Sent) -> None:
        outcome = sent.handle.outcome
        if sent.has_run:
            self.redirect_to(f"/runs/{sent.handle.id}", _SAID[outcome])
        else:
            self.redirect_to(f"/events/{segment(name)}", _NO_RUN.get(outcome, _SAID[outcome]))

    async def show_form(self, name: str, given: Mapping[str, str], error: CgkTasksError | None = None) -> None:
        """The form with what was typed into it, and what was wrong with that."""
        model = event_actions.sendable(name)
        fields = fields_of(model)
        is_json = fields is None or "payload" in given or (self.request.method in SAFE_METHODS and self._asks_for_json)
        at = error.at if isinstance(error, FormError) else {}
        controls = None if is_json or fields is None else tuple(controls_of(fields, given, at))
        option = error.option if isinstance(error, InvalidOptionError) else ""
        of_tenant = isinstance(error, _OF_TENANT)
        tenant_problem = str(error) if given.get("tenant", "").strip() else "is missing"
        problem = " ".join(at.get("", ())) or "Nothing was sent: some fields below are not valid."
        if error is not None and not (at or option or of_tenant):
            problem = str(error)
        self.show(
            "send.html", event=model, given=given, controls=controls, has_form=fields is not None,
            tenants=await self.run_blocking(tenant_ids), json=given.get("payload", "{\n}"),
            problem=problem if error is not None else "", wrong_option=option,
            option_problem=error.problem if isinstance(error, InvalidOptionError) else "",
            tenant_problem=tenant_problem if of_tenant else "", unconfirmed=isinstance(error, NotConfirmedError),
        )  # fmt: skip

    @property
    def _asks_for_json(self) -> bool:
        return self.field("as") == "json"
