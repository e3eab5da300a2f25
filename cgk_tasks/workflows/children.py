"""Child runs: the events that a workflow invokes, and what becomes of the step that waits for their ends.

Children are made with the step that waits for them, all or nothing, and their ids are made of the parent's, the step's
name and their number. So no leg makes them twice, and none needs to remember them.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from cgk_tasks.errors import ChildTimeoutError, ConfigurationError, InvalidOptionError, PermanentError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import get_event, parse_event
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.jobs.error_record import classified, error_record
from cgk_tasks.runs.invoked import mail_of
from cgk_tasks.runs.steps import Memo, Wakes
from cgk_tasks.runs.text import storable_json
from cgk_tasks.workflows.calls import Call
from cgk_tasks.workflows.leg import Leg
from cgk_tasks.workflows.results import encoded

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.runs.models import NewRun

OnFailure = Literal["fail", "wait", "continue"]

_WAKES: Final[Mapping[str, Wakes]] = {"fail": "first_failure", "wait": "all", "continue": "all"}
_OPTIONS: Final = tuple(one.name for one in fields(SendOptions) if one.name != "idempotency_key")


@dataclass(frozen=True, slots=True)
class Child:
    """An event that is to be invoked: its name with a payload, or the event itself."""

    event: str | TenantEvent
    payload: Mapping[str, Any] | None
    options: SendOptions


def child(event: str | TenantEvent, payload: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Child:
    """Raises ConfigurationError, InvalidOptionError, UnknownEventError."""
    kind = event if isinstance(event, TenantEvent) else get_event(event)
    if not kind.durable:
        raise ConfigurationError(
            f"A workflow invokes {kind.event_name}, which leaves no record (durable=False).",
            hint="Invoke a durable event.",
        )
    if isinstance(event, TenantEvent) and payload is not None:
        raise ConfigurationError(f"{kind.event_name} was invoked with a payload beside the event, which has its own.")
    unknown = next((name for name in options if name not in _OPTIONS), None)
    if unknown is not None:
        raise InvalidOptionError(
            unknown, "is not an option of a child run.", hint=f"There are: {', '.join(sorted(_OPTIONS))}"
        )
    return Child(event, payload, SendOptions(**options))


def checked_policy(name: str, on_failure: str) -> OnFailure:
    """Raises ConfigurationError."""
    if on_failure in {"fail", "wait", "continue"}:
        return on_failure  # type: ignore[return-value]
    raise ConfigurationError(
        f"gather({name!r}) was given on_failure={on_failure!r}.", hint="Give 'fail', 'wait' or 'continue'."
    )


def child_id(parent_id: str, name: str, nth: int, number: int) -> str:
    """The id of a child run: a UUID (version 8) whose first part is the parent's, so that ids sort by the day."""
    digest = hashlib.sha256(f"{parent_id} {nth} {number} {name}".encode()).digest()
    made = bytearray(uuid.UUID(parent_id).bytes[:6] + digest[:10])
    made[6], made[8] = made[6] & 0x0F | 0x80, made[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(made)))


class Children:
    """The child runs of the steps of one leg."""

    def __init__(self, leg: Leg, ctx: JobContext[Any]) -> None:
        self._leg = leg
        self._run_id = ctx.run_id
        self._tenant = ctx.tenant

    def ended(
        self, call: Call, children: Sequence[Child], on_failure: OnFailure, timeout: float | None = None
    ) -> Memo | None:
        """A wait for child runs that is over; else it is noted that the run waits, and at first what it invokes."""
        if call.is_over:
            return call.memo
        if call.memo is None:
            return self._begin(call, children, on_failure, timeout)
        ids = self._ids(call, int(call.memo.result or 0))
        found = self._leg.gather(call, partial(_outcome, call, ids, on_failure), ids)
        if found is None:
            wait = call.waiting(until=call.memo.until, result=str(len(ids)))
            self._leg.wait(call, self._for(wait, ids, on_failure), _reason(call, len(ids)))
        return found

    def _begin(
        self, call: Call, children: Sequence[Child], on_failure: OnFailure, timeout: float | None
    ) -> Memo | None:
        if not children:
            return self._leg.keep(call, call.ended("done", result="[]"))
        ids = self._ids(call, len(children))
        runs = [self._run(one, run_id) for one, run_id in zip(children, ids, strict=True)]
        wait = call.waiting(delay_seconds=timeout, result=str(len(ids)))
        self._leg.wait(call, self._for(wait, ids, on_failure), _reason(call, len(ids)), runs)
        return None

    def _ids(self, call: Call, number: int) -> list[str]:
        return [child_id(self._run_id, call.name, call.nth, one) for one in range(number)]

    def _for(self, wait: Memo, ids: Sequence[str], on_failure: OnFailure) -> Memo:
        return wait._replace(awaits=tuple(map(mail_of, ids)), wakes=_WAKES[on_failure])

    def _run(self, child: Child, run_id: str) -> NewRun:
        event = child.event
        if not isinstance(event, TenantEvent):
            own = {} if child.payload and "tenant_id" in child.payload else {"tenantId": self._tenant.id}
            event = parse_event(event, {**own, **(child.payload or {})})
        text, origin = event.to_json().decode(), Origin(run_id=run_id, parent_id=self._run_id)
        return new_run(event.event_name, event.tenant_id, text, child.options, origin, self._tenant)


def _reason(call: Call, children: int) -> str:
    return f"child run {call.name}" if call.kind == "invoke" else f"{children} child runs of {call.name}"


def _outcome(call: Call, ids: Sequence[str], on_failure: OnFailure, found: Mapping[str, str]) -> Memo | None:
    """What the step is after these ends, which are JSON text by the child's id; None if it waits on."""
    ends = [{"run": one, **json.loads(found[one])} for one in ids if one in found]
    failed = next((end for end in ends if end["state"] != "completed"), None)
    is_all = len(ends) == len(ids)
    if failed is not None and (on_failure == "fail" or (on_failure == "wait" and is_all)):
        return call.ended("failed", error=storable_json(failed))
    if is_all:
        kept = ends[0]["result"] if call.kind == "invoke" else ends
        try:
            return call.ended("done", result=encoded(kept, call.name))
        except PermanentError as exc:  # too much to be kept: as for a step that returns it
            return call.ended("failed", error=error_record(exc, 1, classified(exc)))
    if call.memo is not None and call.memo.is_due:
        late = ChildTimeoutError(call.name, ids[0])
        return call.ended("timed_out", error=storable_json({"code": late.code, "message": late.message, "run": ids[0]}))
    return None


def timed_out_child(run_id: str, memo: Memo) -> str:
    """The id of the child that did not end in time: of a replay it is the first run's. run_id: whose steps these are,
    for steps on record that do not say it.
    """
    said = json.loads(memo.error or "{}").get("run")
    return str(said) if said is not None else child_id(run_id, memo.name, memo.nth, 0)
