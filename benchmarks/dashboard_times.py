"""How long pages take, and what they cost the dashboard and PostgreSQL."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.request import urlopen

import psutil
from processes import running_seconds

from cgk_tasks.sql.postgres import autocommit, fetch

SECONDS = 3.0
FEWEST, MOST = 10, 100
"""A page is asked for as often as fits into so many seconds, but at least and at most so often."""

_FIRST_BYTE_OF = ("/runs.csv", "/live")


def postgres_pid() -> int:
    """The main process of the server that the benchmark has started."""
    with autocommit() as connection:
        folder = fetch(connection, "SHOW data_directory")[0]["data_directory"]
    return int((Path(folder) / "postmaster.pid").read_text().split()[0])


def _postgres_seconds(pid: int) -> float:
    """Of those of its processes that are there, and of those that have ended: workers of parallel queries do."""
    return running_seconds(pid) + float(sum(psutil.Process(pid).cpu_times()[2:4]))


def measure(base: str, paths: Mapping[str, str], dashboard: int, postgres: int, budget_ms: float) -> float:
    """Print a table of pages. Returns the worst median; with what is above the budget below the table."""
    print("| page | p50 | p99 | dashboard, CPU | PostgreSQL, CPU | requests |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    medians = {name: _page(name, base + path, dashboard, postgres) for name, path in paths.items()}
    for name, median in medians.items():
        if median > budget_ms:
            print(f"above the budget: {name}, {median:.0f} ms")
    return max(medians.values())


def _page(name: str, url: str, dashboard: int, postgres: int) -> float:
    for _ in range(2):  # what is read for the first time
        _answer(url)
    times: list[float] = []
    before = running_seconds(dashboard), _postgres_seconds(postgres)
    until = time.perf_counter() + SECONDS
    while len(times) < FEWEST or (time.perf_counter() < until and len(times) < MOST):
        begun = time.perf_counter()
        _answer(url)
        times.append((time.perf_counter() - begun) * 1000)
    after = running_seconds(dashboard), _postgres_seconds(postgres)
    own, of_postgres = ((late - early) / len(times) * 1000 for early, late in zip(before, after, strict=True))
    median, p99 = statistics.median(times), statistics.quantiles(times, n=100, method="inclusive")[-1]
    print(
        f"| {name} | {median:.0f} ms | {p99:.0f} ms | {own:.0f} ms | {of_postgres:.0f} ms | {len(times)} |", flush=True
    )
    return median


def _answer(url: str) -> None:
    """All of a page; of what is written as it is read, the first of it."""
    with urlopen(url, timeout=60) as answer:
        answer.read(1 if any(path in url for path in _FIRST_BYTE_OF) else None)
