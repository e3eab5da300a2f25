"""Runs Celery's tests on one side: plain Celery with Redis, or us with Redis and PostgreSQL."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import redis

from cgk_tasks import embedded
from cgk_tasks.embedded import Services
from tests.celery_suite import smoke
from tests.celery_suite.source import extract_tests
from tests.conftest import copied_database

Side = Literal["plain", "ours"]

ROOT = Path(__file__).parent.parent.parent
TESTS = ("canvas", "tasks", "group_chains", "inspect", "loader", "serialization", "redis_backend")
PROCESSES = 4
"""The tests wait for most of their time, each process for a worker of its own."""


@dataclass(frozen=True)
class Result:
    """How one test ended: passed, failed, skipped or not applicable."""

    outcome: str
    detail: str = ""
    seconds: float = 0.0


def run(
    side: Side,
    selected: Sequence[str] = (),
    processes: int = PROCESSES,
    database: tuple[Services, str] | None = None,
) -> dict[str, Result]:
    """The results of the tests on a side.

    selected: arguments of pytest, in place of all tests. processes: how many run them, each with a Redis, a database
    and a worker of its own; one of several is for the smoke tests, which start workers with settings of their own.
    database: a PostgreSQL that runs, and the name of a migrated database in it with the tenant acme.
    """
    with ExitStack() as servers:
        if side == "ours" and database is None:
            database = servers.enter_context(_migrated())
        parts: dict[str, Sequence[str]] = {
            "integration": [*selected, *(f"t/integration/test_{name}.py" for name in TESTS)],
            "smoke": [*selected, *(f"t/smoke/tests/{name}.py" for name in smoke.TESTS)],
        }
        if any("t/" in one for one in selected):
            parts = {
                part: [one for one in selected if f"t/{part}/" in one or "t/" not in one]
                for part in parts
                if any(f"t/{part}/" in one for one in selected)
            }
        with ThreadPoolExecutor(len(parts)) as pool:
            running = [
                pool.submit(_run, side, part, chosen, max(1, processes - 1) if part == "integration" else 1, database)
                for part, chosen in parts.items()
            ]
            return {name: result for one in running for name, result in one.result().items()}


def _run(
    side: Side, part: str, chosen: Sequence[str], processes: int, database: tuple[Services, str] | None
) -> dict[str, Result]:
    with tempfile.TemporaryDirectory(prefix="celery-suite-") as name, ExitStack() as servers:
        folder = Path(name)
        extract_tests(folder)
        _put_in_place(folder / "t" / "smoke" / "conftest.py", "smoke_conftest.py")
        if side == "ours":
            _put_in_place(folder / "t" / "integration" / "conftest.py", "our_conftest.py")
        places = servers.enter_context(_running(side, processes, database))
        results = folder / f"{side}-{part}.jsonl"
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("CGK_", "PYTEST_"))},
            "PYTHONPATH": f"{folder}:{ROOT}",
            "CELERY_SUITE_RESULTS": str(results),
            "CELERY_SUITE_SIDE": side,
            "CELERY_SUITE_PART": part,
            "CELERY_SUITE_PLACES": json.dumps(places),
        }
        command = [
            sys.executable, "-m", "pytest", "-q", "--tb=short", "--timeout", "300", "-o", "addopts=",
            "--continue-on-collection-errors", "-p", "no:cacheprovider", "-p", "no:randomly",
            "-n", str(processes), "--dist", "load", "--maxschedchunk", "1",
            "-p", "celery.contrib.pytest", "-p", "tests.celery_suite.plugin",
            *chosen,
        ]  # fmt: skip
        log = results.with_suffix(".log")
        with log.open("wb") as file:
            done = subprocess.run(command, cwd=folder, env=environment, check=False, stdout=file, stderr=file)
        if kept := os.environ.get("CELERY_SUITE_LOGS"):
            Path(kept).mkdir(exist_ok=True)
            for file in folder.glob(f"{side}-*.*"):
                shutil.copy(file, kept)
        if done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED:
            return {}
        if not results.exists():
            raise RuntimeError(
                f"pytest ran none of the {part} tests on the side {side}:\n{log.read_text(errors='replace')[-4000:]}"
            )
        return _read(results)


def run_again(
    side: Side, results: dict[str, Result], names: Iterable[str], database: tuple[Services, str] | None = None
) -> dict[str, Result]:
    """The results with those of a second attempt, one test after the other: Celery's own suite makes up to six."""
    chosen = sorted(names)
    return {**results, **run(side, chosen, 1, database)} if chosen else results


def _read(results: Path) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for line in results.read_text().splitlines():
        entry = json.loads(line)
        name = entry.pop("test")
        if name not in found or found[name].outcome == "passed":  # a failure of a test's end counts
            found[name] = Result(**entry)
    return found


def _put_in_place(celerys: Path, ours: str) -> None:
    """Have our conftest, which imports from Celery's."""
    celerys.rename(celerys.with_name("celery_conftest.py"))
    shutil.copy(Path(__file__).parent / ours, celerys)


@contextmanager
def _running(side: Side, processes: int, database: tuple[Services, str] | None) -> Iterator[list[dict[str, str]]]:
    """The environments of the processes, while their servers run: a Redis each, and one PostgreSQL for all."""
    with ExitStack() as servers:
        urls = [_without_password(servers.enter_context(embedded.temporary(postgres=False))) for _ in range(processes)]
        places = [
            {"TEST_BROKER": url, "TEST_BACKEND": url, "REDIS_PORT": url.rpartition(":")[2].partition("/")[0]}
            for url in urls
        ]
        if side == "ours":
            assert database is not None
            postgres, template = database
            for place, url in zip(places, urls, strict=True):
                place.update(_of_postgres(copied_database(postgres, template), postgres), CGK_BROKER_URL=url)
        yield places


@contextmanager
def _migrated() -> Iterator[tuple[Services, str]]:
    """A PostgreSQL, and the name of a migrated database in it with the tenant acme."""
    with embedded.temporary() as services:
        environment = {**os.environ, **_of_postgres(services.database_url, services)}
        environment["CGK_BROKER_URL"] = services.broker_url
        for command in (["migrate"], ["tenants", "add", "acme"]):
            subprocess.run(
                [sys.executable, "-m", "cgk_tasks.cli", *command], cwd=ROOT, env=environment, check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        yield services, "cgk"


def _of_postgres(url: str, services: Services) -> dict[str, str]:
    return {
        "CGK_DATABASE_URL": url,
        "CGK_ENCRYPTION_KEYS": str(services.encryption_key),
        "CGK_DEFAULT_QUEUE": "celery",
        "JOBS_PROVIDER": "celery",
    }


def _without_password(services: Services) -> str:
    """The URL of a Redis that asks for no password: Celery's tests have none to give."""
    with redis.Redis.from_url(services.broker_url) as client:
        client.config_set("requirepass", "")
    address = client.connection_pool.connection_kwargs
    return f"redis://127.0.0.1:{address['port']}/0"
