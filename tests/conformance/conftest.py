"""One client for each provider: the real one with a worker, and the local one."""

from collections.abc import Callable

import pytest

import tests.conformance.jobs  # noqa: F401 - the local provider runs them in this process
from cgk_tasks import JobClient, RunStatus, create_job_client
from tests.conftest import TENANTS
from tests.support.waiting import wait_until


@pytest.fixture(scope="module", params=["celery", "local"])
def provider_client(request, database, start_worker):
    """A client on which the jobs of `tests.conformance.jobs` run."""
    if request.param == "celery":
        start_worker(["tests.conformance.jobs"], concurrency=2)
        client = create_job_client(provider="celery")
    else:
        client = create_job_client(provider="local", tenants=TENANTS)
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
