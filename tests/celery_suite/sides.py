"""Runs Celery's tests on one side: plain Celery with Redis, or us with Redis and PostgreSQL."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from cgk_tasks import embedded
from cgk_tasks.embedded import Services
from tests.celery_suite.source import extract_tests

ROOT = Path(__file__).parent.parent.parent
TESTS = ("canvas", "tasks", "group_chains", "inspect", "loader", "serialization", "redis_backend", "backend")
LIMIT_SECONDS = 900


@dataclass(frozen=True)
class Result:
    """How one test ended: passed, failed, skipped or not applicable."""

    outcome: str
    detail: str = ""
    seconds: float = 0.0


def run_part(side: str, part: int, parts: int, selected: Sequence[str] = ()) -> dict[str, Result]:
    """The results of a part of the tests, with servers and a worker of its own.

    side: "plain" or "ours". selected: arguments of pytest, in place of all tests.
    """
    with _running(side) as (folder, environment):
        results = folder / f"{side}-{part}.jsonl"
        environment |= {"CELERY_SUITE_RESULTS": str(results), "CELERY_SUITE_PART": f"{part}/{parts}"}
        files = [f"t/integration/test_{name}.py" for name in TESTS]
        command = [
            sys.executable, "-m", "pytest", "-q", "--tb=short", "--timeout", "60", "-o", "addopts=",
            "--continue-on-collection-errors", "-p", "no:cacheprovider", "-p", "no:randomly",
            "-p", "celery.contrib.pytest", "-p", "tests.celery_suite.plugin",
            *selected, *(() if any("t/" in one for one in selected) else files),
        ]  # fmt: skip
        log = results.with_suffix(".log")
        with log.open("wb") as file:
            subprocess.run(
                command, cwd=folder, env=environment, check=False, stdout=file, stderr=file, timeout=LIMIT_SECONDS
            )
        if kept := os.environ.get("CELERY_SUITE_LOGS"):
            Path(kept).mkdir(exist_ok=True)
            for file in folder.glob(f"{results.stem}.*"):
                shutil.copy(file, kept)
        if not results.exists():
            raise RuntimeError(f"pytest ran no test of the side {side}:\n{log.read_text(errors='replace')[-4000:]}")
        return _read(results)


def _read(results: Path) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for line in results.read_text().splitlines():
        entry = json.loads(line)
        name = entry.pop("test")
        if name not in found or found[name].outcome == "passed":  # a failure of a test's end counts
            found[name] = Result(**entry)
    return found


@contextmanager
def _running(side: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder with the tests and the environment to run them in, while the servers of a side run."""
    with (
        tempfile.TemporaryDirectory(prefix="celery-suite-") as name,
        embedded.temporary(postgres=side == "ours") as services,
    ):
        folder = Path(name)
        extract_tests(folder)
        url = _without_password(services)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CGK_")},
            "PYTHONPATH": f"{folder}:{ROOT}",
            "TEST_BROKER": url,
            "TEST_BACKEND": url,
            "REDIS_PORT": url.rpartition(":")[2].partition("/")[0],
        }
        if side == "ours":
            integration = folder / "t" / "integration"
            (integration / "conftest.py").rename(integration / "celery_conftest.py")
            shutil.copy(Path(__file__).parent / "our_conftest.py", integration / "conftest.py")
            environment |= {
                "CGK_DATABASE_URL": services.database_url,
                "CGK_BROKER_URL": url,
                "CGK_ENCRYPTION_KEYS": str(services.encryption_key),
                "CGK_DEFAULT_QUEUE": "celery",
                "JOBS_PROVIDER": "celery",
            }
            for command in (["migrate"], ["tenants", "add", "acme"]):
                subprocess.run(
                    [sys.executable, "-m", "cgk_tasks.cli", *command], cwd=folder, env=environment, check=True,
                    stdout=subprocess.DEVNULL,
                )  # fmt: skip
        yield folder, environment


def _without_password(services: Services) -> str:
    """The URL of a Redis that asks for no password: Celery's tests have none to give."""
    with redis.Redis.from_url(services.broker_url) as client:
        client.config_set("requirepass", "")
    address = client.connection_pool.connection_kwargs
    return f"redis://127.0.0.1:{address['port']}/0"
