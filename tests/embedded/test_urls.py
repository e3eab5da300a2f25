"""The URLs of private servers work with every client that is given them."""

import stat
from pathlib import Path
from urllib.parse import urlsplit

import kombu
import psycopg
import redis
import sqlalchemy

from cgk_tasks.config.encryption_keys import key_bytes


def test_psycopg_connects_with_the_database_url(services):
    with psycopg.connect(services.database_url) as connection:
        version = connection.info.server_version
    assert version >= 180000


def test_sqlalchemy_connects_with_the_database_url_of_its_psycopg_dialect(services):
    url = services.database_url.replace("postgresql:", "postgresql+psycopg:")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT current_database()")) == "cgk"


def test_the_database_url_does_not_depend_on_the_environment(services, monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    psycopg.connect(services.database_url).close()


def test_redis_py_connects_with_the_broker_url(services):
    with redis.Redis.from_url(services.broker_url) as client:
        assert client.ping()


def test_kombu_sends_and_receives_with_the_broker_url(services):
    with kombu.Connection(services.broker_url) as connection, connection.SimpleQueue("letters") as queue:
        queue.put({"id": 1})
        message = queue.get(timeout=10)
        message.ack()
    assert message.payload == {"id": 1}


def test_redis_is_closed_to_clients_without_its_password(services):
    url = urlsplit(services.broker_url)
    with redis.Redis(host=url.hostname, port=url.port, retry=None) as client:
        try:
            client.ping()
        except redis.AuthenticationError as error:
            refusal = error
    assert url.hostname == "127.0.0.1"
    assert refusal


def test_postgres_listens_on_a_socket_that_only_its_user_reaches(services):
    with psycopg.connect(services.database_url) as connection:
        addresses = connection.execute("SHOW listen_addresses").fetchone()[0]
        sockets = connection.execute("SHOW unix_socket_directories").fetchone()[0]
    assert addresses == ""
    assert stat.S_IMODE(Path(sockets).stat().st_mode) == 0o700


def test_redis_evicts_nothing_and_keeps_an_append_only_file(services):
    with redis.Redis.from_url(services.broker_url, decode_responses=True) as client:
        names = ("maxmemory-policy", "appendonly", "appendfsync")
        settings = {name: client.config_get(name)[name] for name in names}  # one by one, for Redis 6.2
    assert settings == {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}


def test_a_key_for_secrets_is_kept_beside_the_data_for_this_user_only(services):
    key_bytes(services.encryption_key)
    (file,) = services.folder.glob("encryption-key*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
