"""Settings for one test, and servers on loopback."""

import os

import pytest

from cgk_tasks.builtin import register_builtin_jobs
from cgk_tasks.jobs.registry import all_jobs, remove_job
from cgk_tasks.tenancy import add_tenant
from tests.support.receiver import receiving


@pytest.fixture
def builtin_jobs(setting):
    """Switch built-in jobs on: `builtin_jobs(CGK_WEBHOOKS="true")` returns their events."""
    before = {job.id for job in all_jobs()}

    def switch_on(**variables: str) -> tuple[str, ...]:
        setting(**variables)
        return register_builtin_jobs()

    yield switch_on
    for job in all_jobs():
        if job.id not in before:
            remove_job(job.id)


@pytest.fixture
def receiver():
    with receiving() as running:
        yield running


@pytest.fixture
def tenant_id(database):
    """A tenant of this test's own."""
    return add_tenant(f"t{os.urandom(4).hex()}", isolation="search_path").id
