"""Workers inside this process, and inside applications in processes of their own."""

import pytest

import cgk_tasks
from cgk_tasks import embedded_worker
from cgk_tasks.celery_app import follow_settings
from tests.in_process.applications import Application
from tests.support import jobs  # noqa: F401 - defines test.behave and others


@pytest.fixture
def app(database):
    """This process's app, with this module's queue."""
    follow_settings(cgk_tasks.app)
    return cgk_tasks.app


@pytest.fixture
def worker(app):
    """One inside this process, that has started."""
    with embedded_worker(2, stop_seconds=20) as started:
        yield started


@pytest.fixture
def start_application(database):
    """Start applications with a worker inside: `start_application(concurrency=2, stop_seconds=1)`."""
    started = []

    def start(**options):
        application = Application(**options)
        started.append(application)
        return application.wait_ready()

    yield start
    for application in started:
        application.kill()
