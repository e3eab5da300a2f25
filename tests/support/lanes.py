"""Rules, lanes and held runs, put into the tables as senders would, and a worker that claims and finishes."""

import itertools
import uuid
from datetime import UTC, datetime, timedelta

from cgk_tasks.admission.gates import WantedGate, gate_ids
from cgk_tasks.admission.lanes import LaneKey, Told, lane_ids, tell
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit, transaction

_numbers = itertools.count()

HOLD = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, lane_id, rank)
SELECT given.id, l.tenant_id, l.event, 'held', l.queue, l.priority, '{}', given.rank, l.id, given.rank
  FROM unnest(%s::uuid[], %s::timestamptz[]) AS given (id, rank), cgk.lanes l WHERE l.id = %s
"""

STARTED = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, attempt, started_at)
SELECT id, 'acme', 'slow', 'running', 'q-lanes', 5, '{}', now(), 1, now() FROM unnest(%s::uuid[]) AS given (id)
"""


def make_rule():
    """The id of a new rule."""
    unique = f"limit-{next(_numbers)}"
    with autocommit() as connection:
        return connection.execute(
            "INSERT INTO cgk.rules (name, job, event, kind, per, declared)"
            " VALUES (%s, 'job', 'event', 'at_once', 'tenant', '{}') RETURNING id",
            [unique],
        ).fetchone()[0]


def make_gate(key="", *, rule=None, **numbers):
    """The id of a gate, of a rule of its own unless one is given."""
    with autocommit() as connection:
        return gate_ids(connection, [WantedGate(rule or make_rule(), key, **numbers)])[0]


def make_lane(tenant="acme", *gates, queue="q-lanes", event="order.created", priority=5, alone=False):
    key = LaneKey(queue, tenant, event, priority, tuple(gates), alone)
    with autocommit() as connection:
        return lane_ids(connection, [key])[key]


def hold(lane, runs=1, *, since=None, told=True):
    """The ids of runs that are held in a lane, in their order. told: False for a sender that died before."""
    ids = [new_run_id() for _ in range(runs)]
    first = since or datetime.now(UTC)
    ranks = [first + timedelta(microseconds=n) for n in range(runs)]
    with transaction() as connection:
        connection.execute(HOLD, [ids, ranks, lane])
    if told:
        with autocommit() as connection:
            tell(connection, {lane: Told(runs, first)})
    return ids


def start(runs=1):
    """The ids of runs that a worker has claimed and that nobody has admitted."""
    ids = [new_run_id() for _ in range(runs)]
    with autocommit() as connection:
        connection.execute(STARTED, [ids])
    return ids


def finish(ids):
    """The runs end: their rows are gone."""
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = ANY(%s::uuid[])", [list(ids)])


def claim(ids):
    """They are taken by a worker, so that they are in no list of the broker any more."""
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'running' WHERE id = ANY(%s::uuid[])", [list(ids)])


def add_worker(queue, processes):
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, processes, heartbeat_at)"
            " VALUES (%s, 'w', 1, %s, %s, now() + interval '1 hour')",
            [uuid.uuid4(), [queue], processes],
        )


def ids_of(admitted):
    return [run.id for packet in admitted.packets for run in packet]


def status(lane):
    with autocommit() as connection:
        return connection.execute("SELECT status FROM cgk.lanes WHERE id = %s", [lane]).fetchone()[0]


def open_lanes_are_counted():
    """Whether each share knows how many open lanes it has."""
    with autocommit() as connection:
        return not connection.execute(
            "SELECT FROM cgk.shares s WHERE open_lanes <>"
            " (SELECT count(*) FROM cgk.lanes l WHERE l.share_id = s.id AND l.status = 'open')"
        ).fetchall()


USED = """
WITH given AS (
    SELECT now() - make_interval(mins => minute) AS at, seconds
      FROM unnest(%s::int[], %s::float8[]) AS g (minute, seconds)
), halves AS (
    INSERT INTO cgk.used_half_hours AS known
    SELECT %s, date_bin('30 minutes', at, '2000-01-01Z'), %s, sum(seconds) FROM given GROUP BY 2
    ON CONFLICT (queue, half_hour, tenant_id) DO UPDATE SET seconds = known.seconds + EXCLUDED.seconds
)
INSERT INTO cgk.used_shares AS known
SELECT %s, tenant, date_trunc('minute', at), seconds FROM given, unnest(ARRAY[%s, '']) AS tenant
ON CONFLICT (queue, tenant_id, minute) DO UPDATE SET seconds = known.seconds + EXCLUDED.seconds
"""


def note_used(queue, tenant, seconds):
    """What a tenant had of a queue's workers. seconds: of minutes, by how long ago they were."""
    with autocommit() as connection:
        minutes = list(seconds)
        connection.execute(
            USED, [minutes, [float(seconds[minute]) for minute in minutes], queue, tenant, queue, tenant]
        )
