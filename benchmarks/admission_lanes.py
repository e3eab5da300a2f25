"""Lanes full of runs for benchmarks/admission.py, and passes over them in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from processes import processor_seconds

from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.passes import Passes
from cgk_tasks.broker import packets
from cgk_tasks.config import get_settings
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.flow.lanes import PASSES
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit, fetch

QUEUE = "cgk"
MEAN_SECONDS = 0.001
"""Of the runs that are admitted here, so that up to 50 go into a packet."""

_IN_VAIN_AT_MOST = 2_000

EMPTY = """
TRUNCATE cgk.runs, cgk.run_history, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers, cgk.presence;
UPDATE cgk.passes SET known = '{}', clocks = '{}'
"""
WORKER = """
WITH made AS (
    INSERT INTO cgk.workers (id, name, pid, queues, processes, heartbeat_at, revision)
    VALUES (gen_random_uuid(), 'benchmark', 1, %(queues)s::text[], %(processes)s, now() + interval '1 day', '9999')
    RETURNING id)
INSERT INTO cgk.presence (worker_id) SELECT id FROM made RETURNING worker_id
"""
RULE = """
INSERT INTO cgk.rules (name, job, event, kind, per, declared)
VALUES (%(name)s, 'job', %(event)s, 'at_once', %(per)s, '{}') RETURNING id
"""
GATES = """
INSERT INTO cgk.gates (rule_id, key, at_once)
SELECT %(rule)s, %(prefix)s || n, %(at_once)s FROM generate_series(1, %(tenants)s) AS n
"""
GATE = "INSERT INTO cgk.gates (rule_id, key, at_once) VALUES (%(rule)s, '', %(at_once)s) RETURNING id"
SHARES = """
INSERT INTO cgk.shares (queue, tenant_id) SELECT %(queue)s, %(prefix)s || n FROM generate_series(1, %(tenants)s) AS n
ON CONFLICT DO NOTHING
"""
# each: how many runs of each lane, `apart` seconds from each other. rule: whose gate of its tenant a lane has, beside
# `more`.
MADE = """
INSERT INTO cgk.lanes (share_id, queue, tenant_id, event, priority, gates, status, front, urgency, arrivals)
SELECT s.id, s.queue, s.tenant_id, %(event)s, %(priority)s, array_remove(g.id || %(more)s::bigint[], NULL), 'new',
       %(since)s, %(since)s::timestamptz - make_interval(secs => %(step)s * (%(priority)s - 5)), %(each)s
  FROM cgk.shares s LEFT JOIN cgk.gates g ON g.rule_id = %(rule)s AND g.key = s.tenant_id
 WHERE s.tenant_id LIKE %(prefix)s || '%%'
RETURNING id
"""
# Sent a day ago: for some minutes the leader counts all that were sent, each half minute, for the dashboard.
HELD = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, created_at, run_at, lane_id, rank)
SELECT uuidv7(interval '-1 day'), l.tenant_id, l.event, 'held', l.queue, l.priority, '{}', now() - interval '1 day',
       l.front, l.id, l.front + make_interval(secs => (n - 1) * %(apart)s)
  FROM cgk.lanes l, generate_series(1, %(each)s) AS n WHERE l.id = ANY(%(lanes)s::bigint[])
"""
# A run that a worker executes has the only place of the gate.
OCCUPIED = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, lane_id, rank, slot,
                      admitted_at, handed_over_at, hand_overs, attempt, started_at, worker_id)
SELECT uuidv7(), l.tenant_id, l.event, 'running', l.queue, l.priority, '{}', now(), l.id, now(),
       nextval('cgk.slot_numbers'), now(), now(), 1, 1, now(), %(worker)s
  FROM cgk.lanes l WHERE l.id = %(lane)s
"""


def empty() -> None:
    """No runs and lanes, and nothing that this process remembers of them. Only while no worker runs."""
    with autocommit() as connection:
        for statement in EMPTY.split(";"):
            connection.execute(statement)
    for part in (LANES, CROWDED, PASSES, packets.RUN_TIMES):
        current_runtime().drop(part)


def add_worker(processes: int, queues: Sequence[str] = (QUEUE,)) -> str:
    """A worker that is in the record alone. Returns its id."""
    with autocommit() as connection:
        return str(fetch(connection, WORKER, {"queues": list(queues), "processes": processes})[0]["worker_id"])


def remove_workers() -> None:
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.workers WHERE queues <> '{}'")
        connection.execute("DELETE FROM cgk.presence WHERE worker_id NOT IN (SELECT id FROM cgk.workers)")


def fill(
    tenants: int,
    each: int,
    *,
    prefix: str,
    event: str = "bench.mark",
    at_once: int | None = None,
    in_all: int | None = None,
    priority: int = 5,
    since: datetime | None = None,
    apart: float = 1e-6,
) -> list[int]:
    """A lane for each of so many tenants, with so many runs: the first is due since then, the others so many seconds
    from each other. prefix: of the tenants' ids, which no other's begin with. at_once: of each tenant; in_all: of all
    of them. Returns the lanes.
    """
    named = {"prefix": prefix, "tenants": tenants, "queue": QUEUE, "event": event}
    with autocommit() as connection:
        rule, more = None, []
        if at_once is not None:
            rule = _rule(connection, event, "tenant")
            connection.execute(GATES, named | {"rule": rule, "at_once": at_once})
        if in_all is not None:
            values = {"rule": _rule(connection, event, "all"), "at_once": in_all}
            more = [fetch(connection, GATE, values)[0]["id"]]
        connection.execute(SHARES, named)
        step = get_settings().priority_step_seconds
        values = named | {"priority": priority, "rule": rule, "more": more, "each": each, "step": step}
        rows = fetch(connection, MADE, values | {"since": since or datetime.now(UTC)})
        lanes = [row["id"] for row in rows]
        connection.execute(HELD, {"lanes": lanes, "each": each, "apart": apart})
        # Autovacuum would do it within a minute, amid what is measured: so many rows are not written at once elsewhere.
        connection.execute("VACUUM (ANALYZE) cgk.runs, cgk.lanes, cgk.shares, cgk.gates")
        connection.execute("CHECKPOINT")
    return lanes


def _rule(connection: object, event: str, per: str) -> int:
    values = {"name": f"benchmark/{event}/{per}/{time.monotonic_ns()}", "event": event, "per": per}
    return int(fetch(connection, RULE, values)[0]["id"])


def occupy(lane: int) -> None:
    """Have a worker that lives hold the lane's only place."""
    worker = add_worker(1, queues=())
    with autocommit() as connection:
        connection.execute(OCCUPIED, {"lane": lane, "worker": worker})


@dataclass
class Passed:
    """How many runs passes have admitted, and the processor time that they took, here and in PostgreSQL."""

    runs: int = 0
    passes: int = 0
    seconds: float = 0.0


def admit(runs: int, seen: Callable[[list[Dispatch]], object] = lambda _admitted: None) -> Passed:
    """Make passes until so many runs are admitted, which end at once; the time for that is not counted. 0: one pass."""
    passes, done, in_vain = Passes(lambda _event: MEAN_SECONDS), Passed(), 0
    while not done.passes or done.runs < runs:
        begun = _spent()
        admitted = [run for packet in passes.make().packets for run in packet]
        done.seconds += _spent() - begun
        done.runs += len(admitted)
        done.passes += 1
        in_vain = 0 if admitted else in_vain + 1
        if in_vain > _IN_VAIN_AT_MOST:
            raise RuntimeError(f"{done.runs} of {runs} runs were admitted, and then none")
        finish(admitted)
        seen(admitted)
    return done


def pass_in_vain(times: int) -> Passed:
    """Make passes that admit nothing."""
    passes, done = Passes(lambda _event: MEAN_SECONDS), Passed()
    begun = _spent()
    for _ in range(times):
        done.runs += passes.make().runs
    return Passed(done.runs, times, _spent() - begun)


def _spent() -> float:
    """Processor time of this thread and of the connection that is used next: the pool gives the one used last."""
    with autocommit() as connection:
        (backend,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    on_processor = Path(f"/proc/{backend}/schedstat").read_text().split()[0]
    return int(on_processor) / 1e9 + time.thread_time()


def finish(runs: Sequence[Dispatch]) -> None:
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = ANY(%s::uuid[])", [[run.id for run in runs]])


def postgres_seconds() -> float:
    """The processor time that PostgreSQL has taken."""
    with autocommit() as connection:
        (backend,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    return processor_seconds(psutil.Process(backend).ppid())
