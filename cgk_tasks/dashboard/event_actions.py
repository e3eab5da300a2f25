"""What the forms made of an event do: send one, and run a closed run again with another payload."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cgk_tasks.client import create_job_client
from cgk_tasks.dashboard.audit import recorded
from cgk_tasks.dashboard.event_form import Read, Texts, event_from, fits, read
from cgk_tasks.dashboard.form_fields import fields_of
from cgk_tasks.dashboard.roles import User
from cgk_tasks.dashboard.send_options import read_options
from cgk_tasks.errors import InvalidTenantError, PayloadInvalidError, SendError, TenantContextError, UnknownRunError
from cgk_tasks.events.base import INTERNAL, TenantEvent, validate_tenant_id
from cgk_tasks.events.redaction import Redaction
from cgk_tasks.events.registry import find_event, get_event, parse_event_json
from cgk_tasks.flow.replay import closed_run, replay
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import RunHandle
from cgk_tasks.tenancy import registry


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a send. has_run: whether there is a run of its id to look at."""

    handle: RunHandle
    has_run: bool


def send_form(user: User, event: str, tenant_id: str, texts: Texts, options: Mapping[str, str]) -> Sent:
    """Send an event whose fields a form has. Raises FormError, and what `send_json` raises."""

    def made(model: type[TenantEvent]) -> tuple[dict[str, Any], Callable[[], TenantEvent]]:
        fields = fields_of(model)
        if fields is None:
            raise PayloadInvalidError(event, ["it has fields that no form can show: send it as JSON"])
        found = read(fields, texts)
        return found.payload, lambda: event_from(model, found, tenant_id)

    return _send(user, event, tenant_id, made, options)


def send_json(user: User, event: str, tenant_id: str, text: str, options: Mapping[str, str]) -> Sent:
    """Send an event whose payload is given as JSON text. It may leave the tenant out, and names no other one.

    Raises PayloadInvalidError, InvalidOptionError, TenantContextError for another tenant's payload, InvalidTenantError,
    UnknownTenantError, SendError for an event that nobody sends by hand.
    """

    def made(_model: type[TenantEvent]) -> tuple[dict[str, Any], Callable[[], TenantEvent]]:
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise PayloadInvalidError(event, [f"it is not JSON: {exc}"]) from None
        if not isinstance(given, dict):
            raise PayloadInvalidError(event, ["it must be an object with named fields"])
        if given.setdefault("tenantId", tenant_id) != tenant_id:
            raise TenantContextError(
                f"The payload names another tenant than {tenant_id!r}, for which it would be sent.",
                hint="Leave tenantId out of it, or choose that tenant.",
            )
        return given, lambda: parse_event_json(event, json.dumps(given))

    return _send(user, event, tenant_id, made, options)


def _send(
    user: User,
    event: str,
    tenant_id: str,
    made: Callable[[type[TenantEvent]], tuple[dict[str, Any], Callable[[], TenantEvent]]],
    options: Mapping[str, str],
) -> Sent:
    with recorded(user, "send event", subject=event, tenant_id=_well_formed(tenant_id)) as entry:
        model = sendable(event)
        given, make = made(model)
        entry.hide = Redaction(event, given).text
        payload = make()
        registry.require(tenant_id)
        client = create_job_client("celery")
        handle = client.send(payload, **read_options(options))
        entry.affected = int(handle.outcome == "accepted")
        names = ", ".join(sorted(given.keys() - {"tenantId"}))
        entry.message = f"run {handle.id}, {handle.outcome}; fields: {names or 'none'}"
    try:
        client.get_run_status(handle.id)
    except UnknownRunError:
        return Sent(handle, has_run=False)
    return Sent(handle, has_run=True)


def _well_formed(tenant_id: str) -> str | None:
    """What the audit may name as a tenant."""
    try:
        return validate_tenant_id(tenant_id)
    except InvalidTenantError:
        return None


def sendable(event: str) -> type[TenantEvent]:
    """The model of an event that people may send. Raises UnknownEventError, SendError."""
    model = get_event(event)
    if model.category == INTERNAL:
        raise SendError(f"{event} is sent by cgk_tasks alone.", hint="Send the event that stands for what you want.")
    return model


def replay_from_form(user: User, run_id: str, texts: Texts) -> RunHandle:
    """Run a closed run again with the payload of a form. What it does not change is as it was, hidden or not.

    Raises FormError, PayloadInvalidError, UnknownRunError, RunStateError.
    """
    tenant_id = create_job_client("celery").get_run_status(run_id).tenant_id
    with recorded(user, "replay run with another payload", subject=run_id, tenant_id=tenant_id) as entry:
        row = closed_run(run_id, "replay")
        event, before = row["event"], decode(row["payload"])
        model = find_event(event)
        if model is None or not fits(model, before):
            raise PayloadInvalidError(event, ["a form cannot show it: replay it as JSON"])
        made = read(fields_of(model) or (), texts, before)
        entry.hide = Redaction(event, made.payload).text
        payload = event_from(model, made, row["tenant_id"]).to_json().decode()
        handle = replay(run_id, payload)
        changed = ", ".join(_changed(made, before)) or "nothing"
        entry.affected, entry.message = 1, f"new run {handle.id}, changed: {changed}"
        return handle


def _changed(made: Read, before: Mapping[str, Any]) -> list[str]:
    names = ({*made.payload, *before}) - {"tenantId"}
    return sorted(name for name in names if made.payload.get(name) != before.get(name))
