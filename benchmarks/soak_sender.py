"""The sender of benchmarks/soak.py, a process of its own, with the settings of its environment.

    python benchmarks/soak_sender.py RUNS TENANTS MINUTES

What it has sent stands in Redis when it ends.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from shared import client
from soak_day import OPEN_AT_MOST, SENT, Day, Wanted, send_a_day
from soak_jobs import EVENTS

from cgk_tasks import SendItem, SendOptions, send_job, send_jobs
from cgk_tasks.sql.postgres import autocommit

_ALONE = 10
"""Each so-many-th is sent alone; the others together. So do the requests and the imports of a product."""

_TOGETHER = 1_000
"""More than this is a flood, of which none is sent alone."""


def main() -> None:
    runs, tenants, minutes = sys.argv[1:]
    sent = send_a_day(Day(int(runs), int(tenants), float(minutes)), send, open_runs)
    with client() as broker:
        broker.set(SENT, json.dumps(asdict(sent)))


def send(wanted: Sequence[Wanted]) -> None:
    is_flood = len(wanted) > _TOGETHER
    together = []
    for nth, one in enumerate(wanted):
        if nth % _ALONE or is_flood:
            together.append(SendItem(_event(one), options=SendOptions(delay=one.delay)))
        else:
            send_job(_event(one), delay=one.delay)
    if together:
        send_jobs(together)


def _event(wanted: Wanted) -> object:
    more = {} if wanted.shop is None else {"shop": wanted.shop}
    return EVENTS[wanted.kind](tenant_id=wanted.tenant, number=wanted.number, **more)


def open_runs() -> int:
    with autocommit() as connection:
        statement = "SELECT count(*) FROM (SELECT FROM cgk.runs LIMIT %s) AS few"
        return int(connection.execute(statement, [OPEN_AT_MOST + 1]).fetchone()[0])


if __name__ == "__main__":
    main()
