"""A program that only sends: `python sender.py ours|plain`. Prints its milliseconds of processor and its megabytes."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def send_ours() -> None:
    from cgk_tasks import send_job

    send_job("order.created", {"tenantId": "bench", "orderId": "o-1", "totalAmount": 59.97})


def send_plain() -> None:
    from celery import Celery

    app = Celery("sender", broker=os.environ["BENCH_REDIS_URL"])

    @app.task
    def do_nothing(tenant_id: str, order_id: str, total_amount: float) -> None: ...

    do_nothing.apply_async(kwargs={"tenant_id": "bench", "order_id": "o-1", "total_amount": 59.97})


{"ours": send_ours, "plain": send_plain}[sys.argv[1]]()
used = resource.getrusage(resource.RUSAGE_SELF)
lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
print((used.ru_utime + used.ru_stime) * 1000, pss / 1024)
