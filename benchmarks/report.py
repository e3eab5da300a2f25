"""The results as a Markdown page."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from harness import Line, Measured, Plan, Table
from shared import client

from cgk_tasks.sql.postgres import autocommit


def page(measured: Sequence[Measured], plan: Plan, seconds: float, load: float) -> str:
    """`load`: of the machine before the run; more than a little of it makes the figures doubtful."""
    head = f"""\
# Benchmarks

Made by `python benchmarks/run.py` on {datetime.now(UTC):%Y-%m-%d} in {seconds:.0f} s. Everything ran in the same run, \
on the same machine, Redis and PostgreSQL; figures are {_medians(plan.repeats)}.

- Machine: {machine()}; load average before the run: {load:.1f}
- Versions: {versions()}
- Both sides: `celery worker -c 2`, prefork, log level WARNING, without gossip and mingle. Plain Celery has its \
defaults (JSON, early acknowledgement, no results unless said); ours keeps a durable record of every run.
- PostgreSQL: {postgres()}. Redis: {redis_server()}.

"""
    return head + tables(measured)


def _medians(repeats: int) -> str:
    return f"medians of {repeats} repetitions, which took turns" if repeats > 1 else "of a single repetition"


def tables(measured: Sequence[Measured]) -> str:
    """All the lines in one table, which comes first; then the others, each under its title."""
    lines = [line for one in measured if not isinstance(one, Table) for line in one]
    parts = [_beside_plain_celery(lines)] if lines else []
    return "\n".join(parts + [_with_title(one) for one in measured if isinstance(one, Table)])


def _beside_plain_celery(lines: Sequence[Line]) -> str:
    rows = [
        "| what | plain Celery | cgk_tasks | ratio | budget | within |",
        "| --- | ---: | ---: | ---: | ---: | :---: |",
        *(_row(line) for line in lines),
    ]
    return "\n".join(rows) + "\n"


def _with_title(table: Table) -> str:
    # Figures are aligned right, words left.
    is_figure = [cell[:1].isdigit() and len(cell) < 16 for cell in table.rows[0]]
    rule = ["---:" if figure and at else "---" for at, figure in enumerate(is_figure)]
    rows = [f"| {' | '.join(row)} |" for row in (table.columns, rule, *table.rows)]
    return f"## {table.title}\n\n{table.about}\n\n" + "\n".join(rows) + "\n"


def _row(line: Line) -> str:
    plain = "" if line.plain is None else _figure(line.plain, line.unit)
    ratio = "" if line.ratio is None else f"{line.ratio:.2f} ×"  # noqa: RUF001
    within = {None: "", True: "yes", False: "**no**"}[line.within]
    return f"| {line.what} | {plain} | {_figure(line.ours, line.unit)} | {ratio} | {_budget(line)} | {within} |"


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
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in file.read_text().splitlines() if line.startswith("model name")]
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
