"""What a worker loads before its first job. Seconds and megabytes are measured in benchmarks/; here is what causes
them.
"""

import json
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
MAKE = """
import gc, json, sys
import cgk_tasks
cgk_tasks.app.Worker(pool="prefork", concurrency=1, loglevel="WARNING")
frozen = gc.get_freeze_count()
print(json.dumps({
    "collects": gc.isenabled(), "frozen": frozen / (frozen + len(gc.get_objects())), "modules": list(sys.modules),
}))
"""


def printed_by(program):
    urls = {"CGK_DATABASE_URL": "postgresql://nobody@localhost/none", "CGK_BROKER_URL": "redis://localhost/0"}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CGK_")}
    done = subprocess.run([sys.executable, "-c", program], env=plain | urls, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def loaded():
    """The modules of a worker's process, imported as `celery worker` does, without the command's own."""
    return set(printed_by(START).split())


@pytest.fixture(scope="module")
def made():
    """A worker that is about to fork its children."""
    return json.loads(printed_by(MAKE).splitlines()[-1])


@pytest.mark.parametrize("module", HEAVY)
def test_a_worker_does_not_load(loaded, module):
    assert module not in loaded


def test_a_worker_shares_what_it_has_made_with_the_children_it_forks(made):
    assert made["frozen"] > 0.9


def test_a_worker_collects_the_garbage_that_comes_later(made):
    assert made["collects"]


def test_a_worker_makes_no_parser_for_c(made):
    assert "pycparser" not in made["modules"]


def test_events_are_built_when_they_are_first_used():
    code = "from cgk_tasks.events import OrderCreated; print(OrderCreated.__pydantic_complete__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
