"""One client for each provider: the real one with a worker, the local one, and those of hosted systems.

The hosted systems are stand-ins on loopback (tests/support/hosted_server.py). A test that needs what only our own
engine does, such as every attempt's error, asks for the fixture `engine`.
"""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

import tests.conformance.jobs
import tests.conformance.workflow_jobs  # noqa: F401 - the local provider runs them in this process
from cgk_tasks import JobClient, RunStatus, create_job_client
from cgk_tasks.config import use_settings
from tests.conftest import TENANTS
from tests.support.hosted_server import Inngest, TriggerDev, hosted_server, settings_of
from tests.support.waiting import wait_until

OWN = ["celery", "local"]
MODULES = ["tests.conformance.jobs", "tests.conformance.workflow_jobs"]
HOSTED = {"inngest": Inngest, "trigger.dev": TriggerDev}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "provider_client" in metafunc.fixturenames:
        names = OWN if "engine" in metafunc.fixturenames else [*OWN, *HOSTED]
        metafunc.parametrize("provider_client", names, indirect=True, scope="module")


@pytest.fixture
def engine():
    """The runs of this test are run by us."""


@pytest.fixture(scope="module")
def provider_client(request, database):
    """A client on which the jobs of `tests.conformance.jobs` run."""
    with ExitStack() as stack:
        if request.param == "celery":
            request.getfixturevalue("start_worker")(MODULES, concurrency=2)
            client = create_job_client(provider="celery")
        elif request.param == "local":
            client = create_job_client(provider="local", tenants=TENANTS)
        else:
            server = stack.enter_context(hosted_server(HOSTED[request.param]))
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            for name, value in settings_of(server).items():
                patch.setenv(name, value)
            use_settings(None)
            stack.callback(use_settings, None)
            client = create_job_client()
        yield client
        client.close()


@pytest.fixture
def wait_for(provider_client: JobClient) -> Callable[..., RunStatus]:
    """`wait_for(run_id, "running")`, or without states: until it is closed."""

    def wait(run_id: str, *states: str) -> RunStatus:
        def reached() -> RunStatus | None:
            status = provider_client.get_run_status(run_id)
            return status if (status.state in states if states else status.is_closed) else None

        return wait_until(reached, 20, f"run {run_id} {states or 'closed'}")

    return wait
