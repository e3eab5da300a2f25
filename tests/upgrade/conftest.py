"""Earlier releases, unpacked; databases that no migration has seen yet."""

import os
from collections.abc import Iterator

import psycopg
import pytest

from cgk_tasks.sql.postgres import close_pools
from tests.upgrade.release import RELEASES, Release, unpack


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return unpack(request.param, tmp_path_factory.mktemp("release"))


@pytest.fixture
def database(environment, services, setting) -> Iterator[str]:
    """The URL of an empty database, which the settings name."""
    name = f"upgrade_{os.urandom(4).hex()}"
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = services.database_url.replace("/cgk?", f"/{name}?")
    setting(CGK_DATABASE_URL=url)
    yield url
    close_pools()
