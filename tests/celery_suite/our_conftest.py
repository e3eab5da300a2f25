"""In place of t/integration/conftest.py: Celery's own fixtures with our app and a worker process of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from celery.utils.nodenames import anon_nodename
from t.integration import celery_conftest

from cgk_tasks.tenancy import tenant_context
from tests.support.waiting import wait_until

# The fixtures, and what the tests import from it.
globals().update({name: value for name, value in vars(celery_conftest).items() if not name.startswith("__")})


@pytest.fixture(scope="session")
def celery_session_app():
    from tests.celery_suite.application import app

    app.set_default()
    app.set_current()
    # Many tests skip unless results are in Redis; ours are in PostgreSQL, whatever this says.
    app.backend_cls = app.conf.result_backend
    app.conf.result_backend = celery_conftest.TEST_BACKEND
    return app


@pytest.fixture
def celery_app(celery_session_app):
    return celery_session_app


@pytest.fixture(scope="session")
def celery_session_worker(celery_session_app):
    """One process in its pool, as the worker of Celery's own fixture has."""
    log = Path(os.environ["CELERY_SUITE_RESULTS"]).with_suffix(".worker.log")
    command = [
        sys.executable, "-m", "celery", "-A", "tests.celery_suite.application", "worker", "-c", "1",
        "-n", anon_nodename(), "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        wait_until(lambda: "ready." in log.read_text(errors="replace"), 60, "worker ready")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(autouse=True)
def in_a_tenant():
    """What a test sends is a tenant's; nothing else is changed in it."""
    with tenant_context("acme"):
        yield
