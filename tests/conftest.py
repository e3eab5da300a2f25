"""Real PostgreSQL and Redis once a session; real workers where a test asks for them."""

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from cgk_tasks import embedded
from cgk_tasks.config import use_settings

# `HYPOTHESIS_PROFILE=thorough make test` looks further.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

TENANTS = ("acme", "globex", "initech")

# Short times, so that recovery is seen within seconds.
QUICK = {
    "CGK_HEARTBEAT_SECONDS": "0.3",
    "CGK_WORKER_TIMEOUT_SECONDS": "3",
    "CGK_HAND_OVER_PATIENCE_SECONDS": "1",
    "CGK_DISPATCH_INTERVAL_SECONDS": "0.1",
    "CGK_HARD_TIMEOUT_GRACE_SECONDS": "1",
    "CGK_TENANTS_REFRESH_SECONDS": "0.5",
}

ORDERS = """
CREATE TABLE IF NOT EXISTS {schema}.orders (
    order_id text NOT NULL, run_id text, amount numeric, note text
)
"""


# Files that take long: begun first, so that four processes end together. The order means nothing else.
LONG_FILES = (
    "faults/", "acceptance/", "cli/test_dev", "docs/test_tutorial", "embedded/", "typing/", "test_canvas",
    "schedules/", "integration/test_testing_plugin", "monitoring/", "dashboard/", "cli/test_setup", "builtin/",
)  # fmt: skip
SLOW_FILES = (
    "faults/", "acceptance/", "cli/test_dev.py", "docs/test_tutorial", "schedules/test_beat", "schedules/test_year",
)  # fmt: skip
"""Marked as slow: they kill servers, follow a whole tutorial, or live through a year."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONG_FILES))


def pytest_itemcollected(item: pytest.Item) -> None:
    if any(name in item.nodeid for name in SLOW_FILES):
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def services() -> Iterator[embedded.Services]:
    """A private PostgreSQL and Redis for the whole session."""
    with embedded.temporary() as running:
        yield running


@pytest.fixture(scope="session")
def environment(services: embedded.Services) -> Iterator[None]:
    """The settings of this process and of those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CGK_")]:
            patch.delenv(name)
        for name, value in QUICK.items():
            patch.setenv(name, value)
        patch.setenv("CGK_DATABASE_URL", services.database_url)
        patch.setenv("CGK_BROKER_URL", services.broker_url)
        patch.setenv("JOBS_PROVIDER", "celery")
        patch.setenv("CGK_ENCRYPTION_KEYS", services.encryption_key)
        use_settings(None)
        yield
        use_settings(None)


def prepare_database() -> None:
    """Migrate, and give each tenant its orders table."""
    from cgk_tasks.migrations import migrate
    from cgk_tasks.postgres import transaction
    from cgk_tasks.tenancy import add_tenant

    migrate()
    for name in TENANTS:
        tenant = add_tenant(name)
        with transaction() as connection:
            connection.execute(ORDERS.format(schema=f'"{tenant.schema_name}"'))


@pytest.fixture(scope="session")
def migrated(environment: None) -> None:
    prepare_database()


@pytest.fixture(scope="module")
def database(migrated: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """The record of runs and the tenants acme, globex and initech; a queue of this module's own."""
    from cgk_tasks import reset_job_client
    from cgk_tasks.tenancy import registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_DEFAULT_QUEUE", f"q-{request.module.__name__.rpartition('.')[2]}-{os.urandom(3).hex()}")
        use_settings(None)
        registry.forget_known()
        yield
        reset_job_client()
    use_settings(None)


@pytest.fixture(scope="module")
def start_worker(database: None) -> Iterator[Callable]:
    """Start workers on this module's queue: `start_worker(["tests.support.jobs"], concurrency=2)`."""
    from tests.support.workers import Worker

    started = []

    def start(modules=(), **options) -> Worker:
        worker = Worker(modules, **options)
        started.append(worker)
        return worker.wait_ready()

    yield start
    for worker in started:
        worker.stop()
