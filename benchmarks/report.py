"""The results as a Markdown page."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from harness import Line, Plan
from shared import client

from cgk_tasks.postgres import autocommit


def page(lines: Sequence[Line], plan: Plan, seconds: float, load: float) -> str:
    """`load`: of the machine before the run; more than a little of it makes the figures doubtful."""
    head = f"""\
# Benchmarks

Made by `python benchmarks/run.py` on {datetime.now(UTC):%Y-%m-%d} in {seconds:.0f} s. Everything ran in the same run, \
on the same machine, Redis and PostgreSQL; figures are medians of {plan.repeats} repetition(s), which took turns.

- Machine: {machine()}; load average before the run: {load:.1f}
- Versions: {versions()}
- Both sides: `celery worker -c 2`, prefork, log level WARNING, without gossip and mingle. Plain Celery has its defaults (JSON, early \
acknowledgement, no results unless said); ours keeps a durable record of every run.
- PostgreSQL: {postgres()}. Redis: {redis_server()}.

"""
    return head + table(lines)


def table(lines: Sequence[Line]) -> str:
    rows = [
        "| what | plain Celery | cgk_tasks | ratio | budget | within |",
        "| --- | ---: | ---: | ---: | ---: | :---: |",
        *(_row(line) for line in lines),
    ]
    return "\n".join(rows) + "\n"


def _row(line: Line) -> str:
    plain = "" if line.plain is None else _figure(line.plain, line.unit)
    ratio = "" if line.ratio is None else f"{line.ratio:.2f} ×"  # noqa: RUF001
    within = {None: "", True: "yes", False: "**no**"}[line.within]
    return (
        f"| {line.what} | {plain} | {_figure(line.ours, line.unit)} | {ratio} | {_budget(line)} | {within} |"
    )


def _budget(line: Line) -> str:
    sign, value = ("≥", line.at_least) if line.at_least is not None else ("≤", line.at_most)
    if value is None:
        return ""
    return f"{sign} {_figure(value, line.unit)}" if line.plain is None else f"{sign} {value:g} ×"  # noqa: RUF001


def _figure(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number}{unit}" if unit == "/s" else f"{number} {unit}"


def machine() -> str:
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def versions() -> str:
    packages = ("celery", "kombu", "redis", "sqlalchemy", "psycopg")
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    )


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in file.read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def postgres() -> str:
    with autocommit() as connection:
        values = [
            connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("server_version", "fsync", "synchronous_commit")
        ]
    return "{}, fsync {}, synchronous_commit {}".format(*values)


def redis_server() -> str:
    with client() as broker:
        return f"{broker.info('server')['redis_version']}, append-only file, fsync every second"
