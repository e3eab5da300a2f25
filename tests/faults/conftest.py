"""pytest-celery's setup on local processes; servers of each module's own, because its tests kill them."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryTestSetup, CeleryWorkerCluster

from cgk_tasks import embedded, reset_job_client
from cgk_tasks.broker.publisher import close_publishers
from cgk_tasks.config import use_settings
from cgk_tasks.sql.postgres import autocommit, close_pools, fetch
from cgk_tasks.tenancy import registry
from tests.conftest import QUICK, prepare_database
from tests.faults.journal import Journal
from tests.faults.proxy import Proxy, postgres_proxy
from tests.support.nodes import Broker, Postgres, ServerContainer, WorkerNode
from tests.support.rabbitmq import RabbitServer, find_rabbitmq
from tests.support.workers import Worker

MODULES = ["tests.faults.jobs"]
RESULTS = "cgk_tasks.celery_tasks.result_backend:RunResultBackend"


@pytest.fixture(scope="module")
def services() -> Iterator[embedded.Services]:
    with embedded.temporary() as running:
        # Servers of tests do without it; here a commit must outlive a SIGKILL of the server.
        with psycopg.connect(running.database_url, autocommit=True) as connection:
            connection.execute("ALTER DATABASE cgk SET synchronous_commit = on")
        yield running


@pytest.fixture(scope="module")
def broker_name() -> str:
    """A module that runs on RabbitMQ as well overrides this with parameters."""
    return "redis"


@pytest.fixture(scope="module")
def broker_node(services: embedded.Services, broker_name: str) -> Iterator[Broker]:
    if broker_name == "redis":
        yield Broker(ServerContainer("redis", services.redis, services.broker_url))
        return
    program = find_rabbitmq()
    if program is None:
        pytest.skip("there is no rabbitmq-server on this machine")
    server = RabbitServer(program)
    yield Broker(ServerContainer("rabbitmq", server, server.url))
    server.close()


@pytest.fixture(scope="module")
def environment(services: embedded.Services, broker_node: Broker) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CGK_")]:
            patch.delenv(name)
        for name, value in QUICK.items():
            patch.setenv(name, value)
        patch.delenv("CGK_WINDOW_SECONDS")  # queues get crowded here
        patch.setenv("CGK_DATABASE_URL", services.database_url)
        patch.setenv("CGK_BROKER_URL", broker_node.config()["url"])
        patch.setenv("JOBS_PROVIDER", "celery")
        patch.setenv("CGK_EXTERNAL_EVENTS", "order.created")
        _forget()
        prepare_database()
        yield
        _forget()
    use_settings(None)


def _forget() -> None:
    """This process starts anew with the settings that the environment has now."""
    use_settings(None)
    reset_job_client()
    registry.forget_known()
    close_pools()
    close_publishers()


@pytest.fixture(scope="module")
def queue(environment: None) -> Iterator[str]:
    name = f"q-{os.urandom(4).hex()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_DEFAULT_QUEUE", name)
        use_settings(None)
        yield name
    use_settings(None)


@pytest.fixture
def journal(queue: str, tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def worker_count() -> int:
    """Tests of several workers override this with a parameter."""
    return 1


@pytest.fixture
def worker_environment() -> dict[str, str]:
    """Variables for the workers alone."""
    return {}


@pytest.fixture
def celery_broker_cluster(broker_node: Broker) -> CeleryBrokerCluster:
    broker_node.start()
    return CeleryBrokerCluster(broker_node)


@pytest.fixture
def celery_backend_cluster(services: embedded.Services) -> CeleryBackendCluster:
    services.postgres.start()
    return CeleryBackendCluster(Postgres(ServerContainer("postgres", services.postgres, RESULTS)))


@pytest.fixture(scope="module")
def nodes(queue: str) -> Iterator[list[WorkerNode]]:
    """Workers that live on from test to test, as far as the tests let them."""
    started: list[WorkerNode] = []
    yield started
    for node in started:
        node.teardown()


@pytest.fixture
def celery_worker_cluster(
    celery_broker_cluster: CeleryBrokerCluster,
    celery_backend_cluster: CeleryBackendCluster,
    nodes: list[WorkerNode],
    worker_count: int,
    worker_environment: dict[str, str],
) -> Iterator[CeleryWorkerCluster]:
    alive = [node for node in nodes if node.container.status == "running"]
    keep = 0 if worker_environment else worker_count
    for node in alive[keep:]:
        node.teardown()
    nodes[:] = alive[:keep]
    if len(nodes) < worker_count:
        _forget_workers()
    nodes += [WorkerNode(Worker(MODULES, **worker_environment)) for _ in range(worker_count - len(nodes))]
    cluster = CeleryWorkerCluster(*nodes)
    cluster.ready()
    for node in nodes:
        node.container.forget_logs()
    yield cluster
    if worker_environment or _open_runs():
        for node in nodes:
            node.teardown()
        nodes.clear()


def _forget_workers() -> None:
    """A new worker need not wait for the silence of the one that an earlier test killed, nor finish its runs."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.leases, cgk.workers, cgk.runs")


def _open_runs() -> int:
    with autocommit() as connection:
        return fetch(connection, "SELECT count(*) AS runs FROM cgk.runs")[0]["runs"]


@pytest.fixture
def celery_setup_app(celery_setup_cls: type[CeleryTestSetup], celery_setup_config: dict, queue: str):
    """A bare Celery app on the same broker: another producer, which knows nothing of cgk_tasks."""
    app = celery_setup_cls.create_setup_app(celery_setup_config, "another_producer")
    app.conf.task_default_queue = queue
    app.conf.task_default_queue_type = "quorum"  # as ours are on RabbitMQ, where both sides declare the queue
    yield app
    app.close()


@pytest.fixture
def workers(celery_setup: CeleryTestSetup) -> CeleryWorkerCluster:
    return celery_setup.worker_cluster


@pytest.fixture
def worker(celery_setup: CeleryTestSetup) -> WorkerNode:
    return celery_setup.worker


@pytest.fixture
def broker(celery_setup: CeleryTestSetup) -> Broker:
    return celery_setup.broker


@pytest.fixture
def postgres(celery_setup: CeleryTestSetup) -> Postgres:
    return celery_setup.backend


@pytest.fixture
def proxy(services: embedded.Services) -> Iterator[Proxy]:
    """Between `far_worker` and PostgreSQL."""
    with postgres_proxy(services.database_url) as proxy:
        yield proxy


@pytest.fixture
def far_worker(worker: WorkerNode, proxy: Proxy) -> Iterator[WorkerNode]:
    """A second worker, which reaches PostgreSQL through the proxy."""
    node = WorkerNode(Worker(MODULES, CGK_DATABASE_URL=proxy.url))
    node.ready()
    yield node
    node.teardown()
