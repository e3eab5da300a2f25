"""Bulk sends of what needs no thought: PostgreSQL has the first rows while the next ones are made.

Of thousands of sends most are alike: events without options, of a few tenants, whose runs nothing limits by what is in
them. What becomes of such runs is decided once for all of a tenant and event, before the transaction begins. Nothing
that can be wrong with a send is left to be found out then. Whatever is otherwise goes through `accept`, which has all
runs at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import psycopg

from cgk_tasks.admission.lanes import Told
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.flow.accept import current_unit, dispatch_now
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.flow.crowded import MANY
from cgk_tasks.flow.drafts import Drafts
from cgk_tasks.flow.lanes import lanes_of_kinds, place_in, tell_lanes_of
from cgk_tasks.flow.listeners import LISTENERS
from cgk_tasks.flow.new_run import NO_OPTIONS, new_run
from cgk_tasks.flow.quota import are_limited
from cgk_tasks.runs import bodies, insertion, tracing
from cgk_tasks.runs.models import NewRun, RunHandle, new_run_id
from cgk_tasks.sql import postgres
from cgk_tasks.sql.clock import known_now

_Kind = tuple[str, str]
"""An event and a tenant."""

_NO_PAYLOAD: Final = "{}"


class _Plan(NamedTuple):
    """kinds: a run as those of each kind will be. counts: how many there will be. lanes: of the kinds that have to
    wait, which are all or none.
    """

    kinds: Mapping[_Kind, NewRun]
    counts: Mapping[_Kind, int]
    lanes: Mapping[_Kind, int]


class _Inserted(NamedTuple):
    """due: what is to be dispatched. told: what the lanes must be told."""

    handles: list[RunHandle]
    due: list[NewRun]
    told: Mapping[int, Told]


def accept_alike(drafts: Drafts) -> list[RunHandle] | None:
    """Accept a run for each of these sends, all or none, as `accept` does. None where that has to do it: then nothing
    has happened. Raises StoreError.
    """
    if len(drafts) < MANY or not drafts.are_plain or current_unit() is not None or tracing.is_on():
        return None
    longest = max(map(len, drafts.payloads))
    if longest >= bodies.FROM_CHARACTERS or 4 * longest > get_settings().max_payload_bytes:  # four bytes a character
        return None
    plan = _plan(Counter(zip(drafts.events, drafts.tenants, strict=True)))
    if plan is None:
        return None
    try:
        inserted = postgres.retry_conflicts(lambda: _inserted(drafts, plan))
    except psycopg.Error as exc:
        raise postgres.explain(exc) from exc
    tell_lanes_of(inserted.told)
    if inserted.due:
        dispatch_now(inserted.due)
    LISTENERS.current().warn_of_unserved(plan.kinds.values())
    return inserted.handles


def _plan(counts: Mapping[_Kind, int]) -> _Plan | None:
    """What becomes of so many runs of each kind. None where that depends on more than their kind, where some of them
    wait in lanes and others do not, and where one is refused: `accept` finds out which.
    """
    try:
        kinds = {kind: new_run(*kind, _NO_PAYLOAD, NO_OPTIONS) for kind in counts}
    except CgkTasksError:
        return None
    runs = list(kinds.values())
    if any(run.is_ruled or run.expires_at is not None for run in runs):
        return None
    if are_limited(runs) or AWAITED.current().among(runs):
        return None
    lanes = lanes_of_kinds({run: counts[kind] for kind, run in kinds.items()})
    if lanes is None or 0 < len(lanes) < len(kinds):
        return None
    return _Plan(kinds, counts, {kind: lanes[run.id] for kind, run in kinds.items()} if lanes else {})


def _inserted(drafts: Drafts, plan: _Plan) -> _Inserted:
    handles: list[RunHandle] = []
    due: list[NewRun] = []
    earliest: dict[_Kind, datetime] = {}
    runs = _held(drafts, plan, handles, earliest) if plan.lanes else _placeless(drafts, plan, handles, due)
    with postgres.transaction() as connection:
        insertion.copy_as_made(connection, runs, in_lanes=bool(plan.lanes))
    told = {plan.lanes[kind]: Told(plan.counts[kind], rank) for kind, rank in earliest.items()}
    return _Inserted(handles, due, told)


def _held(drafts: Drafts, plan: _Plan, handles: list[RunHandle], earliest: dict[_Kind, datetime]) -> Iterator[NewRun]:
    """Runs that wait in lanes. Notes their handles, and when the first of each kind is due."""
    begun = known_now()
    kinds = {kind: run.held_at(place_in(plan.lanes[kind], begun, 0)) for kind, run in plan.kinds.items()}
    for nth, (event, tenant_id, payload, _options, search_fields) in enumerate(drafts):
        kind = (event, tenant_id)
        place = place_in(plan.lanes[kind], begun, nth)
        earliest.setdefault(kind, place.rank)
        run_id = new_run_id()
        handles.append(RunHandle(run_id))
        yield kinds[kind].like_this(run_id, payload, search_fields, place)


def _placeless(drafts: Drafts, plan: _Plan, handles: list[RunHandle], due: list[NewRun]) -> Iterator[NewRun]:
    """Runs that are dispatched, or whose tenants are suspended. Notes their handles, and which are due."""
    kinds = plan.kinds
    for event, tenant_id, payload, _options, search_fields in drafts:
        run = kinds[event, tenant_id].like_this(new_run_id(), payload, search_fields)
        handles.append(RunHandle(run.id))
        if run.state == "pending":
            due.append(run)
        yield run
