"""`celery_worker` and `celery_session_worker`, the fixtures of celery.contrib.pytest, start workers of our app."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

CONFTEST = """
import pytest

pytest_plugins = ["celery.contrib.pytest", "cgk_tasks.testing.plugin"]


@pytest.fixture
def celery_app(cgk_services):
    from cgk_tasks import app
    return app


@pytest.fixture(scope="session")
def celery_session_app(cgk_services):
    from cgk_tasks import app
    return app
"""

SHOP = """
from cgk_tasks import app


@app.task
def multiply(x, y):
    return x * y


@app.task
def fail():
    raise LookupError("nothing there")
"""

TESTS = """
import pytest
from shop import fail, multiply

from cgk_tasks import tenant_context


@pytest.fixture(autouse=True)
def acme(tenant):
    with tenant_context(tenant("acme")):
        yield


def test_a_task_runs(celery_app, celery_worker):
    assert multiply.delay(4, 4).get(timeout=20) == 16


def test_a_second_worker_of_the_same_process_runs_them_too(celery_app, celery_worker):
    assert (multiply.s(2, 3) | multiply.s(4)).delay().get(timeout=20) == 24


def test_an_exception_comes_back(celery_app, celery_worker):
    with pytest.raises(LookupError, match="nothing there"):
        fail.delay().get(timeout=20)
"""

SESSION_TESTS = """
import pytest
from shop import multiply

from cgk_tasks import tenant_context


@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_for_the_whole_session(celery_session_app, celery_session_worker, tenant, number):
    with tenant_context(tenant("acme")):
        assert multiply.delay(number, 5).get(timeout=20) == 5 * number
"""


@pytest.mark.parametrize("tests", [TESTS, SESSION_TESTS], ids=["each test", "session"])
def test_celerys_fixtures_start_a_worker_of_our_app(tmp_path, tests):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "test_shop.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:]
