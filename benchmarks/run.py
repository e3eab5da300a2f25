"""Measure cgk_tasks against plain Celery: `python benchmarks/run.py [--quick] [--only NAME]`.

Prints a Markdown table and, after a full run, writes it to `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time

from harness import FOLDER, QUICK, Line, Plan, servers

BENCHMARKS = (
    "throughput", "database_job", "bulk_send", "single_send", "latency", "lateness", "schedules", "footprint",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure cgk_tasks against plain Celery.")
    parser.add_argument("--quick", action="store_true", help="less of everything, once: under a minute")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="just this one; may be repeated")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    begun, load = time.monotonic(), os.getloadavg()[0]
    lines: list[Line] = []
    with servers():
        import report

        for name in options.only or BENCHMARKS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            measured = importlib.import_module(name).measure(plan)
            print(report.table(measured), file=sys.stderr, flush=True)
            lines += measured
        page = report.page(lines, plan, time.monotonic() - begun, load)
    print(page)
    if not options.only and not options.quick:
        (FOLDER / "RESULTS.md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
