"""What a worker loads before its first job. Seconds and megabytes are measured in benchmarks/; here is what causes
them.
"""

import os
import subprocess
import sys

import pytest

HEAVY = [
    "sqlalchemy", "django.db", "alembic", "typer", "tornado", "flower", "pytest", "httpx", "cryptography.hazmat",
    "cgk_tasks.embedded", "cgk_tasks.cli", "cgk_tasks.client.hosted", "cgk_tasks.client.inngest",
    "cgk_tasks.client.trigger_dev",
]  # fmt: skip
START = """
import sys
import cgk_tasks
cgk_tasks.app.finalize()
cgk_tasks.app.loader.import_default_modules()
import celery.apps.worker, celery.concurrency.prefork
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def loaded():
    """The modules of a worker's process, imported as `celery worker` does, without the command's own."""
    urls = {"CGK_DATABASE_URL": "postgresql://nobody@localhost/none", "CGK_BROKER_URL": "redis://localhost/0"}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CGK_")}
    done = subprocess.run([sys.executable, "-c", START], env=plain | urls, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", HEAVY)
def test_a_worker_does_not_load(loaded, module):
    assert module not in loaded


def test_events_are_built_when_they_are_first_used():
    code = "from cgk_tasks.events import OrderCreated; print(OrderCreated.__pydantic_complete__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
