"""What large payloads cost: how fast they are drained, and what PostgreSQL writes and keeps of them.

The job returns its payload, so that each run has a result of the same size. The text is random, as what is large is
mostly compressed already: PostgreSQL makes the best of it and finds nothing.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator

from draining import SPAN
from harness import OURS, PACKETS, TENANT, Plan, Table, Worker, clear, setting
from jobs import Weighty

from cgk_tasks import send_jobs
from cgk_tasks.sql.postgres import autocommit

KILOBYTES = (1, 10, 100)

_WRITTEN = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"
_KEPT = """
SELECT sum(pg_total_relation_size(c.oid))::float8 FROM pg_class c
 WHERE c.relnamespace = 'cgk'::regnamespace AND c.relkind = 'r'
   AND (c.relname = 'runs' OR starts_with(c.relname, 'run_history'))
"""
_DONE = "SELECT count(*) FROM cgk.run_history WHERE event = 'bench.weighty' AND state = 'completed'"


def measure(plan: Plan) -> Table:
    return Table(
        "payloads",
        "Large payloads and results",
        "A payload and a result of so many kB for each run, of random text. *Written*: WAL from the send to the end. "
        "*Kept*: what the tables of open runs and of the history have grown by.",
        ("kB", "runs", "sent", "drained", "written a run", "kept a run"),
        [_row(kilobytes, plan) for kilobytes in KILOBYTES],
    )


def _row(kilobytes: int, plan: Plan) -> list[str]:
    count = max(20, min(plan.backlog, plan.payload_bytes // (kilobytes * 1000)))
    clear()
    with setting(*PACKETS), autocommit() as connection:

        def figure(statement: str) -> float:
            return float(connection.execute(statement).fetchone()[0])

        written, kept = figure(_WRITTEN), figure(_KEPT)
        begun = time.perf_counter()
        send_jobs(_events(count, kilobytes))
        sent = count / (time.perf_counter() - begun)
        with Worker(*OURS) as worker:
            worker.wait(lambda: figure(_DONE) == count)
        begun_at, ended_at = connection.execute(SPAN, ("bench.weighty",)).fetchone()
        written, kept = figure(_WRITTEN) - written, figure(_KEPT) - kept
    return [
        f"{kilobytes:,}", f"{count:,}", f"{sent:,.0f}/s", f"{count / (ended_at - begun_at):,.0f}/s",
        f"{written / count / 1e3:,.1f} kB", f"{kept / count / 1e3:,.1f} kB",
    ]  # fmt: skip


def _events(count: int, kilobytes: int) -> Iterator[Weighty]:
    for _ in range(count):
        yield Weighty(tenant_id=TENANT, text=base64.b64encode(os.urandom(kilobytes * 750)).decode())
