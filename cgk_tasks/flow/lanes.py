"""Runs that something limits, or whose queue is crowded, at those who send or dispatch them.

They wait in lanes, and passes say whose turn it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg

from cgk_tasks.admission.declared import Declared
from cgk_tasks.admission.lanes import Told, told_of
from cgk_tasks.admission.lanes import tell as tell_many
from cgk_tasks.admission.limits import LANES, ForLane
from cgk_tasks.admission.rules import GateRule
from cgk_tasks.admission.set_rules import SetRules, set_rules
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.broker.envelope import packet_message
from cgk_tasks.broker.packets import run_times
from cgk_tasks.broker.publisher import SafePublisher, get_publisher
from cgk_tasks.errors import BrokerError
from cgk_tasks.flow.crowded import CROWDED, MANY
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.flow.send_rules import key_fields
from cgk_tasks.logger import get_logger
from cgk_tasks.runs.models import Dispatch, NewRun, Place
from cgk_tasks.runtime import Part
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.postgres import autocommit, fetch, statements, uuid_array

if TYPE_CHECKING:
    from cgk_tasks.admission.passes import Passes

TRANSITIONS = statements("transitions")
log = get_logger("cgk_tasks.sender")

_APART: Final = timedelta(microseconds=1)
"""Runs of one send have different ranks, so that a pass begins behind those that are gone."""

_RUNS_A_PASS: Final = 100
"""Of a sender, who has other things to do."""


class _Alike(NamedTuple):
    """Runs that wait in one lane."""

    lane: ForLane
    ids: list[str]


def _make_passes() -> Passes:
    from cgk_tasks.admission.passes import Passes  # few sends make one

    return Passes(run_times().mean_seconds)


PASSES = Part(_make_passes)


def placed(runs: Sequence[NewRun]) -> Sequence[NewRun]:
    """The same runs before they are inserted; those that are due and have to wait are held in lanes. If PostgreSQL does
    not say in which, they stay as they are.
    """
    try:
        waiting = _waiting(runs, CROWDED.current().among(runs))
        if not waiting:
            return runs
        lanes = _lanes_of(waiting)
    except psycopg.Error as exc:
        log.warning("lanes_not_found", reason=str(exc).strip())
        return runs
    now = known_now()
    return [
        run if (lane := lanes.get(run.id)) is None else run.held_at(place_in(lane, run.run_at or now, nth))
        for nth, run in enumerate(runs)
    ]


def place_in(lane: int, due: datetime, nth: int) -> Place:
    """The place of the nth run of a send."""
    return Place(lane, due + nth * _APART)


def lanes_of_kinds(counts: Mapping[NewRun, int]) -> Mapping[str, int] | None:
    """The lanes in which so many runs like each of these have to wait, by the ids of these; none if PostgreSQL does not
    say in which. None where the lane depends on what is in the payloads.
    """
    try:
        of_events: Counter[tuple[str, str]] = Counter()
        for run, count in counts.items():
            of_events[run.queue, run.event] += count
        waiting = _waiting(list(counts), CROWDED.current().without_room(of_events))
        if any(rule.limit.key is not None for alike in waiting for rule in alike.lane.rules):
            return None
        return _lanes_of(waiting) if waiting else {}
    except psycopg.Error as exc:
        log.warning("lanes_not_found", reason=str(exc).strip())
        return {}


def tell_lanes(runs: Sequence[NewRun]) -> None:
    """Say that runs have come into their lanes, once they are committed. What fails here is found by the sweep."""
    held = [run for run in runs if run.place is not None]
    if held:
        tell_lanes_of(told_of(run.place for run in held if run.place is not None), at_once=_may_start(held))


def tell_lanes_of(told: Mapping[int, Told], *, at_once: bool = True) -> None:
    """The same where it is known how many have come into each, and which is the first."""
    if told:
        try:
            tell(told, at_once=at_once)
        except psycopg.Error as exc:
            log.warning("lanes_not_told", reason=str(exc).strip())


def start(run: NewRun) -> None:
    """Make a pass at once for a run whose lane was empty, if it may start; else the next pass does it."""
    if _may_start([run]):
        try:
            _make_pass()
        except psycopg.Error as exc:
            log.warning("pass_not_made", reason=str(exc).strip())


def hold_back(due: Sequence[NewRun | Dispatch]) -> Sequence[NewRun | Dispatch]:
    """Put those of these runs into lanes that have to wait. All are marked as dispatched. Returns the others."""
    try:
        waiting = _waiting(due, CROWDED.current().among(due))
        if not waiting:
            return due
        lanes = _lanes_of(waiting)
        with autocommit() as connection:
            values = {"ids": uuid_array(lanes), "lanes": list(lanes.values())}
            rows = fetch(connection, TRANSITIONS["hold_dispatched"], values)
        places = [Place(row["lane"], row["rank"]) for row in rows]
        tell(told_of(places), at_once=_may_start([run for run in due if run.id in lanes]))
    except psycopg.Error as exc:
        log.warning("lanes_not_found", reason=str(exc).strip())
        return due
    return [run for run in due if run.id not in lanes]


def _may_start(runs: Sequence[NewRun | Dispatch]) -> bool:
    """Whether some may, as far as is known: not where one waits only because others do."""
    return len(runs) >= MANY or any(_rules_of(runs, set_rules()).values())


def tell(told: Mapping[int, Told], *, at_once: bool = True) -> None:
    """Say that runs have come into lanes. at_once: who wakes an empty one makes a pass, if nobody does. Raises
    psycopg.Error.
    """
    with autocommit() as connection:
        statuses = tell_many(connection, told)
    if at_once and "new" in statuses.values():
        _make_pass()


def _make_pass() -> None:
    publish_admitted(PASSES.current().make(waits=False, most=_RUNS_A_PASS).packets, get_publisher())


def publish_admitted(packets: Sequence[Sequence[Dispatch]], publisher: SafePublisher) -> None:
    """Publish what a pass has admitted. What the broker does not take is held again. Raises psycopg.Error."""
    if not packets:
        return
    try:
        publisher.publish([packet_message(packet) for packet in packets])
    except BrokerError as exc:
        runs = [run.id for packet in packets for run in packet]
        publisher.postponed.warn(len(runs), reason=str(exc))
        hold_unpublished(runs)
    else:
        publisher.postponed.is_over()


def hold_unpublished(ids: Sequence[str]) -> None:
    """Put admitted runs into their lanes again that the broker did not take. Raises psycopg.Error."""
    with autocommit() as connection:
        rows = fetch(connection, TRANSITIONS["hold_unpublished"], {"ids": uuid_array(ids)})
        tell_many(connection, told_of(Place(row["lane"], row["rank"]) for row in rows))


def _waiting(runs: Sequence[NewRun | Dispatch], crowded: Collection[str]) -> list[_Alike]:
    """Those of these runs that are due and have to wait."""
    set_now = set_rules()
    rules = _rules_of(runs, set_now)
    if not rules and not crowded and not set_now.pauses:
        return []
    found: list[_Alike] = []
    known: dict[tuple[str, str, str, int, bool], _Alike | None] = {}
    for run in runs:
        if isinstance(run, NewRun) and run.state != "pending":
            continue
        kind = (run.queue, run.tenant_id, run.event, run.priority, run.alone)
        if kind in known:
            alike = known[kind]
            if alike is not None:
                alike.ids.append(run.id)
            continue
        its = rules.get((run.tenant_id, run.event), ())
        has_keys = any(rule.limit.key is not None for rule in its)
        if has_keys and isinstance(run, Dispatch):
            its = ()  # its worker knows the payload
        if its and has_keys:  # each has a lane for what is in its payload
            found.append(_Alike(ForLane(*kind, its, _fields(run)), [run.id]))
            continue
        waits = its or run.queue in crowded or set_now.is_paused(run.queue, run.tenant_id, run.event)
        alike = known[kind] = _Alike(ForLane(*kind, its), [run.id]) if waits else None
        if alike is not None:
            found.append(alike)
    return found


def _rules_of(runs: Sequence[NewRun | Dispatch], set_now: SetRules) -> dict[tuple[str, str], tuple[GateRule, ...]]:
    """What limits runs, by their tenants and events; nothing while nobody makes passes."""
    declared = _limits_of(runs)
    if not declared and not set_now:
        return {}
    kinds = {(run.tenant_id, run.event) for run in runs}
    found = {kind: _rules_of_kind(*kind, declared.get(kind[1]), set_now) for kind in kinds}
    return {kind: rules for kind, rules in found.items() if rules}


def _rules_of_kind(tenant_id: str, event: str, declared: Declared | None, set_now: SetRules) -> tuple[GateRule, ...]:
    if declared is None:
        return set_now.rules_of_event(tenant_id, event)
    return set_now.rules(tenant_id, declared.job, declared.limits)


def _limits_of(runs: Sequence[NewRun | Dispatch]) -> dict[str, Declared]:
    """What limits runs by the code of their jobs, by their events."""
    known = ROUTES.current()
    if not known.know_limits:
        return {}
    limits = {event: found for event in {run.event for run in runs} if (found := known.limits(event)) is not None}
    return limits if limits and SWITCH.current().is_on else {}


def _fields(run: NewRun | Dispatch) -> Mapping[str, Any]:
    return key_fields(run.payload) if isinstance(run, NewRun) else {}


def _lanes_of(waiting: Sequence[_Alike]) -> dict[str, int]:
    """The lanes of these runs, by their ids in the order of the runs of a kind."""
    lanes, wanted = LANES.current(), [alike.lane for alike in waiting]
    found = lanes.known(wanted)
    if found is None:
        with autocommit() as connection:
            found = lanes.of(connection, wanted)
    return {run_id: lane for alike, lane in zip(waiting, found, strict=True) for run_id in alike.ids}
