"""Why an open run does not go on: the gates that hold it, each with what to do about it."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.broker.publisher import get_patient_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.errors import BrokerError, ConfigurationError, LimitReached, UnknownRunError
from cgk_tasks.events.redaction import redaction_of
from cgk_tasks.flow.guards import guard_status
from cgk_tasks.flow.pauses import Pause
from cgk_tasks.monitoring.why_estimate import start_of_dispatched, start_of_held
from cgk_tasks.monitoring.why_gates import COUNT_TO, Gate, GateCode, counted, time_text, when
from cgk_tasks.monitoring.why_lanes import in_lane
from cgk_tasks.runs import store
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import State
from cgk_tasks.runs.sealing import opened_to_show
from cgk_tasks.sql.far_times import LATEST
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements
from cgk_tasks.tenancy.visibility import may_see

SQL, PAUSES, GUARDS = statements("why"), statements("pauses"), statements("guards")

_RAISE_LIMIT = (
    "It goes on by itself. To let more through, raise the limit where the job is defined, and start the workers anew."
)

_ITS_TURN: Final[Collection[GateCode]] = frozenset({"limit", "guard", "in_lane", "in_queue"})
"""Gates that open in time, one run after another."""

_AFTER = {
    "failed": "Its errors: cgk-tasks runs show {id}",
    "unhandled": "No worker of queue {queue} had a job for {event}. Define one, name its module in CGK_JOB_MODULES of "
    "those workers, start them anew, and: cgk-tasks runs retry {id}",
}
"""What to do about a run that closed so."""


@dataclass(frozen=True, slots=True)
class Why:
    """A run and what holds it, the most important first. A closed run has the one gate `closed`. expected_at: when it
    is expected to start, an estimate; None where that is not known, or it has.
    """

    run_id: str
    state: State
    gates: tuple[Gate, ...]
    expected_at: datetime | None = None


def why(run_id: str) -> Why:
    """What holds this run now. Raises UnknownRunError, and the driver's errors when PostgreSQL is away."""
    try:
        wanted = str(uuid.UUID(run_id))
    except ValueError:
        raise UnknownRunError(run_id) from None
    with autocommit() as connection:
        rows = fetch(connection, SQL["facts"], {"id": wanted, "timeout": get_settings().worker_timeout_seconds})
        if rows and not may_see(rows[0]["tenant_id"]):
            raise UnknownRunError(run_id)
        if rows:
            facts = opened_to_show(rows[0])
            found = facts | _count_ahead(facts) | _lane(facts) | {"pauses": _pauses_of(facts)}
            gates = tuple(_GATES[facts["state"]](found))
            return Why(wanted, facts["state"], gates, found.get("expected_at") if _only_waits(gates) else None)
        closed = store.find(wanted, connection)
    if closed is None:
        raise UnknownRunError(run_id)
    hint = _AFTER.get(closed["state"], "").format(**closed)
    ended = Gate("closed", f"It closed as {closed['state']} at {time_text(closed['closed_at'])}.", hint)
    return Why(wanted, closed["state"], (ended,))


def _only_waits(gates: Sequence[Gate]) -> bool:
    """Whether nothing holds the run but its turn."""
    return all(gate.code in _ITS_TURN for gate in gates)


def _count_ahead(facts: Row) -> Row:
    if facts["state"] != "pending" or facts["handed_over_at"] is None:
        return {}
    with autocommit() as connection:
        before = fetch(connection, SQL["ahead"], facts | {"limit": COUNT_TO + 1})
        at_work = fetch(connection, SQL["at_work"], facts)[0]
        expected = start_of_dispatched(connection, facts, before)
    ahead = sum(row["runs"] for row in before)
    return {
        "ahead": ahead, "at_work": at_work["runs"], "tenants_at_work": at_work["tenants"], "expected_at": expected,
    }  # fmt: skip


def _lane(facts: Row) -> Row:
    """Where a held run waits that something limits."""
    if facts["state"] != "held" or not SWITCH.current().has_lanes:
        return {}
    with autocommit() as connection:
        found = fetch(connection, SQL["lane"], {"id": facts["id"], "limit": COUNT_TO + 1})
        lane = found[0] if found else None
        if lane is not None and lane["kind"] == Guard.kind:
            guards = fetch(connection, GUARDS["of_gate"], {"gate_id": lane["waits_at"]})
            lane["guard"] = guard_status(guards[0]) if guards else None
        expected = None if lane is None else start_of_held(connection, facts, lane)
    return {} if lane is None else {"lane": lane, "expected_at": expected}


def _pauses_of(facts: Row) -> list[Pause]:
    """Those that the run is under, but for that of its queue as a whole."""
    if not SWITCH.current().flow_version:
        return []
    with autocommit() as connection:
        return [Pause(**row) for row in fetch(connection, PAUSES["pauses_of_run"], facts)]


def _scheduled(facts: Row) -> Iterator[Gate]:
    yield from _paused(facts)
    if facts["deferral"] is not None and facts["run_at"] > facts["now"]:
        yield _waiting(facts, decode(facts["deferral"]))
    elif facts["run_at"] > facts["now"] and facts["merge_key"] is not None and facts["started_at"] is None:
        so_far = f", and has {facts['merged']} so far" if facts["merged"] else ""
        reason = f"It waits for further sends of its event until {when(facts['run_at'], facts['now'])}{so_far}."
        yield Gate("not_due", reason, until=facts["run_at"])
    elif facts["run_at"] > facts["now"]:
        yield Gate("not_due", f"It is not due until {when(facts['run_at'], facts['now'])}.", until=facts["run_at"])
    else:
        yield from _dispatch(facts)


def _waiting(facts: Row, deferral: Mapping[str, str]) -> Gate:
    """A workflow. The names of its steps are the application's, so they may quote the payload."""
    reason = redaction_of(facts["event"], facts["payload"]).text(deferral["reason"])
    until = facts["run_at"] if facts["run_at"] < LATEST else None
    at_most = f", until {when(until, facts['now'])} at most" if until is not None else ""
    return Gate("workflow_waits", f"Its workflow waits for {reason}{at_most}.", until=until)


def _retrying(facts: Row) -> Iterator[Gate]:
    yield from _paused(facts)
    error = facts["error"]
    if facts["run_at"] <= facts["now"]:
        yield from _dispatch(facts)
    elif facts["deferral"] is not None:
        yield _deferred(facts, decode(facts["deferral"]))
    elif error is not None and error.get("attempt") == facts["attempt"]:
        failed = f"Attempt {facts['attempt'] - facts['deaths']} failed with {error.get('code')}"
        yield Gate(
            "waits_for_retry", f"{failed}; the next one is due {when(facts['run_at'], facts['now'])}.",
            until=facts["run_at"],
        )  # fmt: skip
    else:
        yield Gate(
            "waits_for_retry", f"It is tried again {when(facts['run_at'], facts['now'])}.", until=facts["run_at"]
        )


def _deferred(facts: Row, deferral: Mapping[str, str]) -> Gate:
    """Its job put it off, or a limit did. The reason is the application's text, so it may quote the payload."""
    reason = redaction_of(facts["event"], facts["payload"]).text(deferral["reason"])
    again = f"it tries again {when(facts['run_at'], facts['now'])}, and no attempt is used."
    if deferral["code"] == LimitReached.code:
        return Gate("limit", f"It is over a limit ({reason}); {again}", _RAISE_LIMIT, facts["run_at"])
    said = f" ({reason})" if reason else ""
    return Gate("waits_for_retry", f"Its job put it off{said}; {again}", until=facts["run_at"])


def _held(facts: Row) -> Iterator[Gate]:
    gates = list(_paused(facts))
    yield from gates
    if not gates and "lane" in facts:
        yield in_lane(facts["lane"], facts["now"])
        yield from _no_worker(facts)
    elif not gates:
        without_job = list(_no_job(facts))
        released = "Nothing holds it any more; the dispatcher releases it within a second or two."
        yield from without_job or [Gate("being_released", released)]
        yield from _no_worker(facts)


def _pending(facts: Row) -> Iterator[Gate]:
    yield from _paused(facts)
    if facts["handed_over_at"] is None:
        yield from _dispatch(facts)
        return
    gates = [*_no_worker(facts), *_no_job(facts), *_broker(), *_after_a_crash(facts)]
    yield from gates
    yield _place(facts)


def _running(facts: Row) -> Iterator[Gate]:
    if facts["worker_id"] is None:
        number = facts["children_open"]
        yield Gate(
            "waits_for_children", f"It waits for {number} child {'run' if number == 1 else 'runs'}, one for each job."
        )
        return
    attempt = facts["attempt"] - facts["deaths"]
    doing = f"Attempt {attempt} has been running since {time_text(facts['started_at'])}"
    if facts["cancel_requested_at"] is not None:
        asked = f"It was cancelled at {time_text(facts['cancel_requested_at'])}"
        yield Gate("being_cancelled", f"{asked}; its worker interrupts the job within a second or two.")
    worker = facts["worker"]
    timeout = get_settings().worker_timeout_seconds
    silent = facts["worker_silent_seconds"]
    if worker is None or silent > timeout / 2:
        since = f"has been silent for {silent:.0f} s" if silent is not None else "is no longer on record"
        yield Gate(
            "worker_silent", f"Its worker {worker or facts['worker_id']} {since}.",
            f"After {timeout:g} s of silence another live worker reclaims the run.",
        )  # fmt: skip
        yield from _no_worker(facts)
    yield Gate("running", f"{doing}, on {worker or facts['worker_id']} in process {facts['worker_pid']}.")


_GATES: dict[State, Callable[[Row], Iterator[Gate]]] = {
    "scheduled": _scheduled,
    "retrying": _retrying,
    "held": _held,
    "pending": _pending,
    "running": _running,
}


def _paused(facts: Row) -> Iterator[Gate]:
    yield from _tenant(facts)
    yield from _queue(facts)
    for pause in facts["pauses"]:
        yield _under(pause)


def _tenant(facts: Row) -> Iterator[Gate]:
    tenant = facts["tenant_id"]
    if not facts["has_tenant"]:
        yield Gate(
            "unknown_tenant", f"There is no tenant {tenant!r}, so the run will fail.",
            f"Register it: cgk-tasks tenants add {tenant}",
        )  # fmt: skip
    elif facts["tenant_status"] == "suspended":
        by = f" by {facts['suspended_by']}" if facts["suspended_by"] else ""
        since = f" since {time_text(facts['suspended_at'])}" if facts["suspended_at"] else ""
        yield Gate(
            "tenant_suspended", f"Its tenant {tenant} is suspended{by}{since}.",
            f"Resume it: cgk-tasks tenants resume {tenant}",
        )  # fmt: skip


def _queue(facts: Row) -> Iterator[Gate]:
    if facts["paused_at"] is not None:
        queue = facts["queue"]
        by = f" by {facts['paused_by']}" if facts["paused_by"] else ""
        reason = f": {facts['pause_reason']}" if facts["pause_reason"] else ""
        yield Gate(
            "queue_paused", f"Its queue {queue!r} is paused{by} since {time_text(facts['paused_at'])}{reason}.",
            f"Resume it: cgk-tasks queues resume {shlex.quote(queue)}",
        )  # fmt: skip


def _under(pause: Pause) -> Gate:
    by = f" by {pause.paused_by}" if pause.paused_by else ""
    reason = f": {pause.reason}" if pause.reason else ""
    until = f", until {time_text(pause.until)}" if pause.until is not None else ""
    then = " What waits is cancelled." if pause.mode == "drop" else ""
    named = {"--queue": pause.queue, "--tenant": pause.tenant_id, "--job": pause.event}
    options = " ".join(f"{name} {shlex.quote(value)}" for name, value in named.items() if value is not None)
    return Gate(
        "paused", f"It is paused ({pause.subject}){by} since {time_text(pause.paused_at)}{until}{reason}.{then}",
        f"Resume it: cgk-tasks resume {options}", pause.until,
    )  # fmt: skip


def _dispatch(facts: Row) -> Iterator[Gate]:
    """Due, and not in the broker: the dispatcher's turn, which needs a living worker and the broker."""
    gates = [*_no_worker(facts), *_no_job(facts), *_broker()]
    if not gates and not facts["has_dispatcher"]:
        gates = [Gate("not_dispatched", "No worker leads the dispatcher just now; one takes over within seconds.")]
    yield from gates or [Gate("not_dispatched", "It is due, and is dispatched to the broker within a second or two.")]


def _no_worker(facts: Row) -> Iterator[Gate]:
    queue = facts["queue"]
    start = f"Start one: celery -A cgk_tasks worker -Q {queue}"
    if not facts["workers"]:
        yield Gate("no_worker", "No worker is running.", start)
    elif not facts["listening"] and facts["drained"]:
        number = facts["drained"]
        who = f"{number} {'worker listens' if number == 1 else 'workers listen'} to its queue {queue!r}"
        yield Gate(
            "workers_drained", f"{who}, and {'is' if number == 1 else 'all of them are'} drained: no run of it starts.",
            "Let one take runs again: cgk-tasks workers list, then cgk-tasks workers resume WORKER",
        )  # fmt: skip
    elif not facts["listening"]:
        number = facts["workers"]
        others = f"{number} running {'worker listens' if number == 1 else 'workers listen'} to others"
        yield Gate(
            "no_listener", f"No worker listens to its queue {queue!r} ({others}).",
            f"{start}, or add it to CGK_QUEUES of the workers",
        )  # fmt: skip


def _no_job(facts: Row) -> Iterator[Gate]:
    """Workers listen to its queue, and not all of them have a job for it."""
    event, queue = facts["event"], facts["queue"]
    executing, listening = facts["executing"], facts["listening"]
    if executing == listening:
        return
    advice = (
        f"Name the module of its job in CGK_JOB_MODULES of the workers that listen to {queue!r}, and start them anew"
    )
    if not executing:
        yield Gate(
            "no_job",
            f"No worker that listens to its queue {queue!r} has a job for {event}: it ends as unhandled.",
            f"{advice}, or send {event} to a queue whose workers have one.",
        )
    elif facts["state"] == "held":
        have = f"{executing} of the {listening} workers that listen to its queue {queue!r}"
        yield Gate(
            "waits_for_worker",
            f"It is held until a worker takes it that has a job for {event}, which {have} can.",
            f"{advice}.",
        )


def _broker() -> Iterator[Gate]:
    try:
        get_patient_publisher().ping()
    except (BrokerError, ConfigurationError) as exc:
        yield Gate(
            "broker_down", f"The broker cannot be reached from here: {exc}",
            "Nothing is lost: runs are dispatched when it is back. Check it with: cgk-tasks doctor",
        )  # fmt: skip


def _after_a_crash(facts: Row) -> Iterator[Gate]:
    if missing := facts["claims_wait_for"]:
        yield Gate(
            "after_a_crash",
            f"PostgreSQL restarted after a crash, and has not heard yet what these workers run: {', '.join(missing)}.",
            f"One that stays silent counts as dead after {get_settings().worker_timeout_seconds:g} s.",
        )  # fmt: skip


def _place(facts: Row) -> Gate:
    queue, ahead = facts["queue"], facts["ahead"]
    number = counted(ahead)
    behind = f"behind {number} {'run' if ahead == 1 else 'runs'}" if ahead else "at the head"
    at_work = facts["at_work"]
    busy = f"; {at_work:,} of the queue {'is' if at_work == 1 else 'are'} running" if at_work else ""
    text = f"It was dispatched at {time_text(facts['handed_over_at'])} and waits in queue {queue!r} {behind}{busy}."
    again = facts["hand_overs"] - 1
    if again > 0:
        text += f" It was dispatched {again} {'time' if again == 1 else 'times'} more, because it seemed lost."
    return Gate("in_queue", text)
