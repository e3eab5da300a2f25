"""What the record says of a day of benchmarks/soak.py once all is done: lost, doubled, late, and how much a minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared import client
from soak_day import TICK_EVENT, TWICE, Sent, bits_of

from cgk_tasks.sql.postgres import autocommit, fetch

IN_REDIS: Final = {
    "quick": "quick", "later": "later", "sync": "sync", "set-out": "trip", "arrive": "trip", "child": "trip",
}  # fmt: skip
"""What leaves a bit, and of which kind as many are sent."""

IN_TABLES: Final = ("row", "flaky", "tick")

ENDS = "SELECT event, state, count(*) AS runs FROM cgk.run_history GROUP BY 1, 2"
OPEN = "SELECT count(*) AS runs FROM cgk.runs"
TICKS = "SELECT coalesce(sum(runs), 0)::int AS runs FROM cgk.schedule_ticks WHERE schedule = 'soak-tick'"
SCHEMAS = "SELECT schema_name FROM cgk.tenants WHERE id ~ '^t[0-9]+$'"
EFFECTS = "SELECT kind, count(*) AS rows, count(DISTINCT mark) AS marks FROM {schema}.effects GROUP BY kind"
_SCHEMAS_AT_ONCE = 50

# By the part of the day in which it started. A run that was tried again is late by its first attempt, and not counted.
BY_TIME = """
SELECT floor(extract(epoch FROM started_at - %(begun)s) / %(every)s)::int AS nth, count(*) AS runs,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY late) AS p50,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY late) AS p99
  FROM (SELECT started_at, extract(epoch FROM started_at - {since})::float8 AS late FROM cgk.run_history
         WHERE event = %(event)s AND created_at >= %(begun)s AND attempt = 1) AS run
 GROUP BY 1 ORDER BY 1
"""
CLOSED = """
SELECT floor(extract(epoch FROM closed_at - %(begun)s) / %(every)s)::int AS nth, count(*) AS runs
  FROM cgk.run_history WHERE created_at >= %(begun)s GROUP BY 1 ORDER BY 1
"""
FIRED = """
SELECT scheduled_for, extract(epoch FROM fired_at - scheduled_for)::float8 AS late
  FROM cgk.schedule_ticks WHERE schedule = 'soak-tick' ORDER BY 1
"""


@dataclass(frozen=True)
class Count:
    """What should be there, and what is."""

    what: str
    expected: int
    found: int

    @property
    def is_right(self) -> bool:
        return self.expected == self.found


@dataclass(frozen=True)
class Late:
    """Of runs that started in a part of the day: how many, and how late, in seconds."""

    runs: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Record:
    """Everything by the number of a part of the day. closed: runs that ended in it."""

    due: Mapping[int, Late]
    ticks: Mapping[int, Late]
    waits: Mapping[int, Late]
    closed: Mapping[int, int]
    longest_tick_delay: float


def read(begun: datetime, every: float) -> Record:
    with autocommit() as connection:
        values = {"begun": begun, "every": every}

        def late(event: str, since: str) -> dict[int, Late]:
            rows = fetch(connection, BY_TIME.format(since=since), values | {"event": event})
            return {row["nth"]: Late(row["runs"], row["p50"], row["p99"]) for row in rows}

        return Record(
            due=late("soak.later", "run_at"),
            ticks=late(TICK_EVENT, "run_at"),
            waits=late("soak.row", "created_at"),
            closed={row["nth"]: row["runs"] for row in fetch(connection, CLOSED, values)},
            longest_tick_delay=max((row["late"] for row in fetch(connection, FIRED)), default=0.0),
        )


def open_runs() -> int:
    with autocommit() as connection:
        return int(fetch(connection, OPEN)[0]["runs"])


def counts(sent: Sent) -> list[Count]:
    """Whether each run that was accepted has ended well, once, and has done what it is there for, once."""
    with autocommit() as connection:
        ends = {(row["event"], row["state"]): row["runs"] for row in fetch(connection, ENDS)}
        ticks = fetch(connection, TICKS)[0]["runs"]
        schemas = [row["schema_name"] for row in fetch(connection, SCHEMAS)]
        effects = _effects(connection, schemas)
    made = {f"soak.{kind}": count for kind, count in sent.counts.items()}
    made |= {"soak.child": sent.counts["trip"], TICK_EVENT: ticks}
    found = [Count(f"{event} completed", count, ends.get((event, "completed"), 0)) for event, count in made.items()]
    others = sum(runs for (event, state), runs in ends.items() if event in made and state != "completed")
    found += [Count("other ends", 0, others), Count("still open", 0, open_runs())]
    with client() as broker:
        for kind, of in IN_REDIS.items():
            found.append(Count(f"{kind} done", sent.counts[of], broker.bitcount(bits_of(kind))))
        found.append(Count("done twice", 0, int(broker.get(TWICE) or 0)))
    for kind in IN_TABLES:
        expected = ticks if kind == "tick" else sent.counts[kind]
        rows, marks = effects.get(kind, (0, 0))
        found += [Count(f"rows of {kind}", expected, rows), Count(f"different rows of {kind}", expected, marks)]
    return found


def _effects(connection: Any, schemas: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Rows and different rows of each kind, over all tenants."""
    found: dict[str, tuple[int, int]] = {}
    for at in range(0, len(schemas), _SCHEMAS_AT_ONCE):
        parts = (EFFECTS.format(schema=f'"{schema}"') for schema in schemas[at : at + _SCHEMAS_AT_ONCE])
        for row in fetch(connection, " UNION ALL ".join(parts)):
            rows, marks = found.get(row["kind"], (0, 0))
            found[row["kind"]] = rows + row["rows"], marks + row["marks"]
    return found
