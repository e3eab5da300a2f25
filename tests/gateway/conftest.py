"""The gateway as it is served, in a thread of this process; and clients of it with keys."""

import os

import httpx
import pytest

from cgk_tasks.gateway import application
from cgk_tasks.tenancy import add_tenant
from tests.gateway.gateway_support import secret_of, served


@pytest.fixture(scope="module")
def gateway(database):
    """Its URL."""
    with served(application()) as url:
        yield url


@pytest.fixture(scope="module")
def connect(gateway):
    """Clients of the gateway: `connect("acme", ["read"])`."""
    opened = []

    def client(tenant_id="acme", scopes=("send:*", "read", "operate")):
        return client_with(secret_of(tenant_id, scopes))

    def client_with(secret):
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        opened.append(httpx.Client(base_url=gateway, headers=headers, timeout=60))
        return opened[-1]

    client.with_key = client_with
    yield client
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def api(connect):
    """A client with a key of acme that may do everything."""
    return connect()


@pytest.fixture(scope="module")
def nobody(connect):
    """A client without a key."""
    return connect.with_key(None)


@pytest.fixture
def new_tenant(database):
    """A tenant of the test's own."""
    return add_tenant(f"t{os.urandom(4).hex()}", isolation="search_path").id
