"""What the modules of these tests share: a worker of each module's own, a tenant, a broker that may be stopped."""

import pytest

from cgk_tasks import embedded, reset_job_client
from cgk_tasks.config import use_settings
from cgk_tasks.tenancy import tenant_context


@pytest.fixture(scope="module")
def worker(start_worker, request):
    """A worker that executes what the module of the test imports as `tasks`."""
    return start_worker([request.module.tasks.__name__])


@pytest.fixture
def acme(worker):
    """The tenant for which the test sends to the module's worker."""
    with tenant_context("acme"):
        yield


@pytest.fixture(scope="module")
def own_broker(database):
    """A Redis that nobody else uses, in the settings of the module."""
    with embedded.temporary(postgres=False) as services, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_BROKER_URL", services.redis.url)
        use_settings(None)
        reset_job_client()
        yield services.redis
    use_settings(None)
    reset_job_client()


@pytest.fixture(scope="module")
def worker_on_own_broker(own_broker, start_worker):
    return start_worker(["tests.support.jobs"])
