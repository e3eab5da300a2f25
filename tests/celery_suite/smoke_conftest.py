"""In place of t/smoke/conftest.py, on both sides: pytest-celery's setup with workers that are processes.

A worker is kept for the tests that ask for the same settings.
"""

import itertools
import json
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from celery import Celery
from celery.app.defaults import DEFAULTS
from pytest_celery import CeleryTestSetup, CeleryTestWorker, CeleryWorkerCluster
from t.smoke.celery_conftest import (
    RabbitMQManagementBroker,
    SuiteOperations,
    TaskTermination,
    WorkerKill,
    WorkerRestart,
)
from t.smoke.workers.alt import AltSmokeWorkerContainer
from t.smoke.workers.dev import SmokeWorkerContainer
from t.smoke.workers.other import OtherSmokeWorkerContainer

from cgk_tasks.tenancy import tenant_context
from tests.celery_suite.smoke_application import app
from tests.celery_suite.worker_process import WorkerProcess
from tests.support.nodes import LocalContainer, number

__all__ = ["RabbitMQManagementBroker", "SuiteOperations", "TaskTermination", "WorkerKill", "WorkerRestart"]

_FOLDER = Path(os.environ["CELERY_SUITE_RESULTS"]).parent
_SIDE = os.environ["CELERY_SUITE_SIDE"]
_numbers = itertools.count()


class Container(LocalContainer):
    """A worker process, as pytest-celery talks to its containers."""

    def __init__(self, kind, settings):
        name = f"{os.environ['PYTEST_XDIST_WORKER']}n{next(_numbers)}"
        super().__init__(name, {})
        self.kind = kind
        command = [
            "-n", f"{kind.worker_name()}@{self.id}", "-Q", kind.worker_queue(), "-l", "INFO",
            "--without-gossip", "--without-mingle",
        ]  # fmt: skip
        self.process = WorkerProcess(
            "tests.celery_suite.smoke_application",
            command,
            _FOLDER / f"{_SIDE}-smoke.{name}.log",
            CELERY_SUITE_SETTINGS=json.dumps(settings),
        )

    def version(self):
        return self.kind.version()

    def worker_name(self):
        return self.kind.worker_name()

    def worker_queue(self):
        return self.kind.worker_queue()

    @property
    def status(self):
        return "running" if self.process.is_running else "exited"

    @property
    def attrs(self):
        return {"State": {"ExitCode": self.process.exit_code}}

    def ready(self):
        self.process.wait_ready()
        return True

    def logs(self):
        return self.process.log

    def kill(self, signal="SIGKILL"):
        self.process.send(number(signal))
        if number(signal) == number("SIGKILL"):
            self.process.end()

    def restart(self, timeout=0):
        self.process.end()
        self.process.start()
        self.process.wait_ready()


class Node(CeleryTestWorker):
    def get_running_processes_info(self, columns=None, filters=None):
        main = psutil.Process(self.container.process.pid)
        return [{"pid": process.pid, "name": "celery"} for process in (main, *main.children())]


_kept: dict[tuple[str, type[SmokeWorkerContainer]], Node] = {}


@pytest.fixture(scope="session", autouse=True)
def workers_end():
    yield
    for node in _kept.values():
        node.container.process.end()


@pytest.fixture(scope="session")
def celery_session_app():
    return app


@pytest.fixture(autouse=True)
def in_a_tenant():
    app.set_default()
    app.set_current()
    with tenant_context("acme") if _SIDE == "ours" else nullcontext():
        yield


@pytest.fixture
def default_worker_app():
    """What a test changes in the settings of this one, its workers have."""
    held = Celery("settings", set_as_current=False)
    held.conf.broker_url = held.conf.result_backend = os.environ["TEST_BROKER"]
    return held


@pytest.fixture
def default_worker_container_cls():
    return SmokeWorkerContainer


@pytest.fixture
def start_node(default_worker_app):
    conf, urls = default_worker_app.conf, ("broker_url", "result_backend")
    settings = {name: conf[name] for name, usual in DEFAULTS.items() if conf[name] != usual and name not in urls}

    app.conf.update(settings)  # an application has its settings where it sends, too

    def start(kind):
        same = json.dumps(settings, sort_keys=True)
        for key in [key for key in _kept if key[0] != same]:
            _kept.pop(key).container.process.end()  # it would take what is meant for this one
        key = (same, kind)
        if key not in _kept or _kept[key].container.status == "exited":
            _kept[key] = Node(Container(kind, settings), app)
        _kept[key].container.ready()
        return _kept[key]

    return start


@pytest.fixture
def celery_worker(start_node, default_worker_container_cls):
    return start_node(default_worker_container_cls)


@pytest.fixture
def celery_setup_worker(celery_worker):
    return celery_worker


@pytest.fixture
def celery_alt_dev_worker(celery_worker, start_node):
    node = start_node(AltSmokeWorkerContainer)
    yield node
    node.container.process.end()


@pytest.fixture
def celery_other_dev_worker(celery_worker, start_node):
    node = start_node(OtherSmokeWorkerContainer)
    yield node
    node.container.process.end()


@pytest.fixture
def celery_worker_cluster(celery_worker):
    return CeleryWorkerCluster(celery_worker)


@pytest.fixture
def celery_broker_cluster():
    return [SimpleNamespace()]


@pytest.fixture
def celery_backend_cluster():
    return None


@pytest.fixture
def default_worker_tasks():
    return set()


@pytest.fixture
def default_worker_signals():
    return set()


@pytest.fixture
def celery_setup(celery_worker_cluster, celery_broker_cluster, celery_backend_cluster):
    return CeleryTestSetup(celery_worker_cluster, celery_broker_cluster, celery_backend_cluster, app)
