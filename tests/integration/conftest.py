"""A broker of a module's own, which its tests may stop or freeze."""

import pytest

from cgk_tasks import embedded, reset_job_client
from cgk_tasks.config import use_settings


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
