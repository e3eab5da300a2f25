"""Workers inside this process, and inside applications in processes of their own: with Redis, and without a broker."""

import pytest

import cgk_tasks
from cgk_tasks import embedded_worker
from cgk_tasks.celery_app import follow_settings
from cgk_tasks.config import use_settings
from tests.in_process.applications import Application
from tests.support import jobs  # noqa: F401 - defines test.behave and others


@pytest.fixture(params=["redis", "postgresql"])
def broker(request, database):
    """What carries runs to workers."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "postgresql":
            patch.setenv("CGK_BROKER_URL", "postgresql")
        use_settings(None)
        follow_settings(cgk_tasks.app)
        yield request.param
    use_settings(None)
    follow_settings(cgk_tasks.app)


@pytest.fixture
def app(broker):
    """This process's app, with this module's queue."""
    return cgk_tasks.app


@pytest.fixture
def worker(app):
    """One inside this process, that has started."""
    with embedded_worker(2, stop_seconds=20) as started:
        yield started


@pytest.fixture
def start_application(broker):
    """Start applications with a worker inside: `start_application(concurrency=2, stop_seconds=1)`."""
    started = []

    def start(**options):
        application = Application(**options)
        started.append(application)
        return application.wait_ready()

    yield start
    for application in started:
        application.kill()


@pytest.fixture
def start_other(broker, start_application, start_worker):
    """Start another worker: a process of Celery's, or where there is no broker another application. It has `pid` and
    `kill()`.
    """
    started = []

    def start(modules):
        if broker == "postgresql":
            return start_application(modules=modules)
        started.append(start_worker(modules))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()
