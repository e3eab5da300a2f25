"""Measure cgk_tasks beside plain Celery and other queues.

    python benchmarks/run.py [--quick] [--only NAME] [--repeats N]

Prints Markdown tables and, after a full run, writes them to `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from dataclasses import replace

from harness import FOLDER, QUICK, Measured, Plan, servers

BENCHMARKS = (
    "throughput", "unmet", "one_by_one", "database_job", "payloads", "bulk_send", "single_send", "latency",
    "round_trip", "lateness", "schedules", "footprint", "rabbitmq", "others", "durable_steps", "waiting_workflows",
    "scale", "admission",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure cgk_tasks beside plain Celery and other queues.")
    parser.add_argument("--quick", action="store_true", help="less of everything, once: under a minute")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="just this one; may be repeated")
    parser.add_argument("--repeats", type=int, help="how often each is measured; the figures are medians")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    if options.repeats:
        plan = replace(plan, repeats=options.repeats)
    begun, load = time.monotonic(), os.getloadavg()[0]
    measured: list[Measured] = []
    with servers():
        import report

        for name in options.only or BENCHMARKS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            at = time.monotonic()
            measured.append(importlib.import_module(name).measure(plan))
            print(report.tables(measured[-1:]), file=sys.stderr)
            print(f"{name}: {time.monotonic() - at:.0f} s", file=sys.stderr, flush=True)
        page = report.page(measured, plan, time.monotonic() - begun, load)
    print(page)
    if not options.only and not options.quick:
        (FOLDER / "RESULTS.md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
