"""Real PostgreSQL and Redis once a session; real workers where a test asks for them."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis
import structlog
from hypothesis import settings

from cgk_tasks import embedded
from cgk_tasks.config import use_settings
from cgk_tasks.runs import logs

# A shell's background jobs ignore SIGINT, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `HYPOTHESIS_PROFILE=thorough make test` looks further.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# To show the local variables of a traceback takes seconds.
logs.hide_variables()

TENANTS = ("acme", "globex", "initech")

# Short times, so that recovery is seen within seconds.
QUICK = {
    "CGK_HEARTBEAT_SECONDS": "0.3",
    "CGK_WORKER_TIMEOUT_SECONDS": "3",
    "CGK_DISPATCH_PATIENCE_SECONDS": "1",
    "CGK_DISPATCH_INTERVAL_SECONDS": "0.1",
    "CGK_HARD_TIMEOUT_GRACE_SECONDS": "1",
    "CGK_TENANTS_REFRESH_SECONDS": "0.5",
    # Many tests send what nobody runs: that makes no queue crowded. Those about crowded queues say otherwise.
    "CGK_WINDOW_SECONDS": "60",
}

ORDERS = """
CREATE TABLE IF NOT EXISTS {schema}.orders (
    order_id text NOT NULL, run_id text, amount numeric, note text
)
"""


# Files that take long, the longest first: so the processes end together. The order means nothing else.
LONG_FILES = (
    "soak/", "docs/test_tutorial", "celery_suite/", "cli/test_setup", "acceptance/", "faults/", "upgrade/",
    "cli/test_dev", "dashboard/test_access", "schedules/", "test_canvas", "integration/test_testing_plugin",
    "embedded/", "typing/", "monitoring/", "dashboard/", "builtin/",
)  # fmt: skip
SLOW_FILES = (
    "faults/", "acceptance/", "cli/test_dev.py", "docs/test_tutorial", "schedules/test_beat", "schedules/test_year",
    "dashboard/", "typing/", "cli/test_dashboard.py", "cli/test_terminals.py", "docs/test_how_to_test",
    "integration/test_testing_plugin", "in_process/", "job_queues/", "bridges/", "django_backend/test_in_workers",
)  # fmt: skip
"""Marked as slow: they kill servers, follow a whole tutorial, live through a year, or start a process a test."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files of which no test is chosen: to import and count theirs takes each process seconds."""
    chosen = config.option.markexpr
    if chosen not in {"slow", "not slow"} or not collection_path.match("test_*.py"):
        return None
    is_listed = any(name in collection_path.as_posix() for name in SLOW_FILES)
    has_slow = is_listed or "mark.slow" in collection_path.read_text()
    is_left_out = not has_slow if chosen == "slow" else is_listed
    return True if is_left_out else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(LONG_FILES) if name in item.nodeid), len(LONG_FILES))

    items.sort(key=place)


def pytest_itemcollected(item: pytest.Item) -> None:
    if any(name in item.nodeid for name in SLOW_FILES):
        item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def structlog_as_before() -> Iterator[None]:
    """Commands and workers configure structlog for their process, which here is that of the next test, too."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


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
        lead_app_here()
        yield
        use_settings(None)


def lead_app_here() -> None:
    """Let this process's Celery app, which test modules make when they are collected, have the broker of the settings.
    Else what it tells the workers reaches them after those tests alone that give it a broker.
    """
    imported = sys.modules.get("cgk_tasks.celery_app")
    if imported is not None:
        imported.follow_settings(imported.app)


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change settings for one test: `setting(CGK_WEBHOOKS="true")`; None removes one."""

    def change(**variables: str | None) -> None:
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        use_settings(None)

    yield change
    monkeypatch.undo()
    use_settings(None)


def prepare_database() -> None:
    """Migrate, and give each tenant its orders table."""
    from cgk_tasks.migrations import migrate
    from cgk_tasks.sql.postgres import transaction
    from cgk_tasks.tenancy import add_tenant

    migrate()
    for name in TENANTS:
        tenant = add_tenant(name)
        with transaction() as connection:
            connection.execute(ORDERS.format(schema=f'"{tenant.schema_name}"'))


def copied_database(services: embedded.Services, source: str) -> str:
    """The URL of a new database that is a copy of another."""
    name = f"db_{os.urandom(4).hex()}"
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
        connection.execute(f"ALTER DATABASE {name} SET search_path TO public")  # the login has the name of our schema
    return services.database_url.replace("/cgk?", f"/{name}?")


@contextmanager
def own_database(services: embedded.Services, source: str) -> Iterator[str]:
    """The URL of a database that is a copy of another, and is the one of the settings meanwhile."""
    from cgk_tasks import reset_job_client
    from cgk_tasks.sql.postgres import close_pools
    from cgk_tasks.tenancy import registry

    url = copied_database(services, source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_DATABASE_URL", url)
        use_settings(None)
        registry.forget_known()
        yield url
        reset_job_client()
        close_pools()
    use_settings(None)
    registry.forget_known()


@pytest.fixture(scope="session")
def template(services: embedded.Services, environment: None) -> str:
    """The name of a migrated database with the tenants acme, globex and initech, for copies."""
    with own_database(services, "template1") as url:
        prepare_database()
        return psycopg.conninfo.conninfo_to_dict(url)["dbname"]


@pytest.fixture(scope="module")
def database(services: embedded.Services, template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of this module's own, all its tests see of the platform; a queue of its own, in an empty broker."""
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushdb()  # of what a module before left, such as its unreadable messages
    queue = f"q-{request.module.__name__.rpartition('.')[2]}-{os.urandom(3).hex()}"
    with own_database(services, template) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_DEFAULT_QUEUE", queue)
        use_settings(None)
        yield url


@pytest.fixture(scope="module")
def django_tables(database: str) -> None:
    """The tables of django-celery-beat, and Django of this process at the module's database."""
    from cgk_tasks.schedules.django_setup import migrate_django, set_up_django
    from tests.support.django_here import lead_django_here

    set_up_django()
    lead_django_here()
    migrate_django()


@pytest.fixture(scope="module")
def start_worker(database: str) -> Iterator[Callable]:
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
