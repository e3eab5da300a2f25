"""What benchmarks/soak.py looks at while the day goes on: memory, sizes of tables, dead rows, WAL, processor time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
import redis
from processes import children, kilobytes, processor_seconds, with_children

from cgk_tasks import embedded
from cgk_tasks.sql.postgres import autocommit, fetch

KEPT = frozenset(
    ("run_history", "run_logs", "steps", "mail", "event_mail", "idempotency_keys", "schedule_ticks", "audit",
     "tenant_usage", "runs_of_days")
)  # fmt: skip
"""Tables that keep what was, for days: they grow with each run, and are dropped by the day."""

TABLES = r"""
SELECT regexp_replace(c.relname, '_(\d{8}|rest)$', '') AS name,
       sum(pg_table_size(c.oid))::float8 / 1e6 AS heap, sum(pg_indexes_size(c.oid))::float8 / 1e6 AS indexes,
       sum(coalesce(s.n_dead_tup, 0))::bigint AS dead, sum(coalesce(s.autovacuum_count, 0))::bigint AS vacuums
  FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
 WHERE c.relnamespace = 'cgk'::regnamespace AND c.relkind = 'r' GROUP BY 1
"""
SERVER = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 / 1e6 AS wal,
       (SELECT count(*) FROM cgk.runs) AS open_runs,
       (SELECT count(*) FROM cgk.runs WHERE state = 'held') AS held,
       (SELECT sum(pg_total_relation_size(oid))::float8 / 1e6 FROM pg_class
         WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r') AS catalog
"""


@dataclass(frozen=True)
class TableFigures:
    """Sizes in megabytes. `vacuums`: how often autovacuum has been there."""

    heap: float
    indexes: float
    dead: int
    vacuums: int


@dataclass(frozen=True)
class Sample:
    """The state at a time, in seconds since the day began. Memory, WAL and sizes in megabytes, processor times in
    seconds; WAL and processor times of all the time until then.
    """

    at: float
    memory: Mapping[str, float]
    tables: Mapping[str, TableFigures]
    wal: float
    catalog: float
    open_runs: int
    held: int
    processor: Mapping[str, float]
    busy: float
    """Which part of all cores was busy since the last sample, by all programs of the machine."""

    @property
    def dead(self) -> int:
        """Of all tables but cgk.runs."""
        return sum(figures.dead for name, figures in self.tables.items() if name != "runs")

    @property
    def worked_on(self) -> float:
        """Size of the tables that keep nothing of the past, but for cgk.runs."""
        sizes = (one.heap + one.indexes for name, one in self.tables.items() if name not in KEPT and name != "runs")
        return sum(sizes)

    @property
    def kept(self) -> float:
        return sum(one.heap + one.indexes for name, one in self.tables.items() if name in KEPT)


class Observer:
    """Looks at the servers and at processes, which have names: a kind each."""

    def __init__(self, services: embedded.Services, processes: Mapping[str, int]) -> None:
        self._services = services
        self._processes = processes
        self._begun = time.monotonic()
        psutil.cpu_percent()

    def look(self) -> Sample:
        with autocommit() as connection:
            tables = {
                row["name"]: TableFigures(row["heap"], row["indexes"], row["dead"], row["vacuums"])
                for row in fetch(connection, TABLES)
            }
            server = fetch(connection, SERVER)[0]
        return Sample(
            at=time.monotonic() - self._begun,
            memory=self._memory(),
            tables=tables,
            wal=server["wal"],
            catalog=server["catalog"],
            open_runs=server["open_runs"],
            held=server["held"],
            processor={name: processor_seconds(pid) for name, pid in self._all().items()},
            busy=psutil.cpu_percent() / 100,
        )

    def _all(self) -> dict[str, int]:
        """Those that are alive."""
        servers = {"PostgreSQL": self._services.postgres.pid, "Redis": self._services.redis.pid}
        named = {**self._processes, **servers}
        return {name: pid for name, pid in named.items() if pid is not None and psutil.pid_exists(pid)}

    def _memory(self) -> dict[str, float]:
        """Of each kind. The processes of PostgreSQL share its buffers, which are not counted; those of the worker share
        what it had when it forked them, which counts in parts.
        """
        alive = self._all()
        found = {name: _megabytes([alive[name]], "Pss") for name in self._processes if name in alive}
        if forked := children(alive["worker"]):
            found["worker's child"] = _megabytes(forked, "Pss") / len(forked)
        found["PostgreSQL"] = _megabytes(with_children(alive["PostgreSQL"]), "Private_Clean", "Private_Dirty")
        with redis.Redis.from_url(os.environ["CGK_BROKER_URL"]) as broker:
            found["Redis"] = broker.info("memory")["used_memory"] / 2**20
        return {name: size for name, size in found.items() if size}


def _megabytes(pids: Sequence[int], *kinds: str) -> float:
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            total += kilobytes(pid, *kinds)
    return total / 1024
