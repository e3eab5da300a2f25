"""Fixtures and a marker for pytest. Opt in from your conftest.py: `pytest_plugins = ["cgk_tasks.testing.plugin"]`."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Protocol

import pytest

from cgk_tasks import embedded
from cgk_tasks.config import Isolation
from cgk_tasks.tenancy import Tenant, add_tenant
from cgk_tasks.testing.idempotency import prove_idempotent
from cgk_tasks.testing.local_jobs import LocalJobs
from cgk_tasks.testing.services import private_services


@pytest.fixture
def local_jobs() -> Iterator[LocalJobs]:
    """What this test sends runs in this process: `.sent`, `.runs`, `.wait_idle(timeout)`. Needs no server."""
    with LocalJobs() as jobs:
        yield jobs


@pytest.fixture(scope="session")
def cgk_services() -> Iterator[embedded.Services]:
    """A private PostgreSQL and Redis for the whole session, migrated, and the settings pointed at them."""
    with private_services() as services:
        yield services


class TenantFactory(Protocol):
    """The type of the fixture `tenant`."""

    def __call__(self, name: str = "tenant", *, isolation: Isolation | None = None) -> Tenant: ...


@pytest.fixture
def tenant(cgk_services: embedded.Services) -> TenantFactory:  # noqa: ARG001 - the registry is there
    """Makes tenants: `tenant("acme")` registers `acme-5f3a9c`, with an empty schema, and another one at each call.

    isolation: the setting's, if not given. CGK_TENANT_SETUP makes the tables, as in production.
    """

    def make(name: str = "tenant", *, isolation: Isolation | None = None) -> Tenant:
        return add_tenant(f"{name}-{os.urandom(3).hex()}", isolation=isolation)

    return make


_MARKER = "idempotent"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{_MARKER}(job, payload, **options): prove_idempotent with these, when the test's body has ended"
    )


@pytest.fixture(autouse=True)
def _services_of_proof(request: pytest.FixtureRequest) -> None:
    """A test with the marker has the private services, whether it asks for them or not."""
    if request.node.get_closest_marker(_MARKER) is not None:
        request.getfixturevalue("cgk_services")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """After the body, which may prepare something, such as the answers of `httpserver`, whose requests count then."""
    called = yield
    marker = pyfuncitem.get_closest_marker(_MARKER)
    if marker is not None:
        proof = prove_idempotent(*marker.args, **{"http": pyfuncitem.funcargs.get("httpserver"), **marker.kwargs})
        pyfuncitem.user_properties.append(("proof", str(proof)))
    return called
