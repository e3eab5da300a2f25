"""In place of t/integration/conftest.py: Celery's own fixtures with our app and a worker process of ours."""

import os
import time
from functools import cache
from pathlib import Path

import psycopg
import pytest
from celery.utils.nodenames import anon_nodename
from t.integration import celery_conftest

from cgk_tasks.tenancy import tenant_context
from tests.celery_suite.worker_process import WorkerProcess

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
    log = Path(os.environ["CELERY_SUITE_RESULTS"]).with_suffix(f".{os.environ['PYTEST_XDIST_WORKER']}.log")
    options = ["-c", "1", "-n", anon_nodename(), "--without-gossip", "--without-mingle"]
    process = WorkerProcess("tests.celery_suite.application", options, log)
    try:
        process.wait_ready()
        yield process
    finally:
        process.end()


@pytest.fixture(autouse=True)
def in_a_tenant():
    """What a test sends is a tenant's; nothing else is changed in it."""
    with tenant_context("acme"):
        yield


def connected(connect):
    """The client of what the tasks of the tests write to, for tests that wait for it.

    Many wait for ten seconds to see that nothing comes; where no run is open, nothing can.
    """
    client = connect()
    blpop = client.blpop

    def wait(key, timeout):
        until = time.monotonic() + timeout
        while time.monotonic() < until and _any_run_is_open():
            found = blpop(key, 0.2)
            if found is not None:
                return found
        found = client.lpop(key)
        return None if found is None else (key.encode(), found)

    client.blpop = wait
    return client


@cache
def _postgres():
    return psycopg.connect(os.environ["CGK_DATABASE_URL"], autocommit=True)


def _any_run_is_open():
    return _postgres().execute("SELECT FROM cgk.runs LIMIT 1").fetchone() is not None


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_nothing(request):
    with pytest.MonkeyPatch.context() as patch:
        if connect := getattr(request.module, "get_redis_connection", None):
            patch.setattr(request.module, "get_redis_connection", lambda: connected(connect))
        yield
