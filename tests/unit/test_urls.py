"""URLs of servers: every library gets the same host, port, user, password and database, and no error quotes them."""

import ssl
import traceback
from urllib.parse import quote

import psycopg
import pytest
import redis
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection
from psycopg.conninfo import conninfo_to_dict

from cgk_tasks.config import Settings, use_settings
from cgk_tasks.config.amqp_tls import amqp_tls
from cgk_tasks.config.broker_url import celery_url, redis_py_url
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.sqlalchemy_engine import sqlalchemy_url
from cgk_tasks.sql.urls import parameters

HOSTS = st.sampled_from(["db.example.com", "127.0.0.1", "[::1]", "%2Fvar%2Frun%2Fmy%20postgres", "db_1", ""])
REDIS_HOSTS = st.sampled_from(["redis.example.com", "127.0.0.1", "[::1]", "redis_1"])
TEXTS = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1, max_size=20)
PORTS = st.integers(1, 65_535)


def escaped(text):
    return quote(text, safe="")


def of_sqlalchemy(url):
    _arguments, found = sa.create_engine(url).dialect.create_connect_args(url)
    return {name: str(value) for name, value in found.items() if name != "context"}


def of_django(url):
    use_settings(Settings(_env_file=None, database_url=url))
    try:
        from cgk_tasks.schedules.django_database import database

        found = database()
    finally:
        use_settings(None)
    pairs = (("HOST", "host"), ("PORT", "port"), ("USER", "user"), ("PASSWORD", "password"), ("NAME", "dbname"))
    return {name: found[key] for key, name in pairs if found[key]}


@given(TEXTS, TEXTS, HOSTS, PORTS, TEXTS)
def test_every_library_connects_to_postgresql_with_the_same_values(user, password, host, port, name):
    url = f"postgresql+psycopg://{escaped(user)}:{escaped(password)}@{host}:{port}/{escaped(name)}"
    wanted = {"user": user, "password": password, "port": str(port), "dbname": name}
    found = parameters(url)
    assert {key: found[key] for key in wanted} == wanted
    assert conninfo_to_dict(psycopg.conninfo.make_conninfo(**found)) == found
    assert of_sqlalchemy(sqlalchemy_url(url)) == found
    assert of_django(url) == found


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql:///d?host=/run/pg&port=5433", {"host": "/run/pg", "port": "5433", "dbname": "d"}),
        ("postgresql://u:p%40@/d?host=/run/pg", {"host": "/run/pg", "user": "u", "password": "p@", "dbname": "d"}),
        ("postgres://%2Frun%2Fpg/d", {"host": "/run/pg", "dbname": "d"}),
        ("postgresql://[::1]:5433/d", {"host": "::1", "port": "5433", "dbname": "d"}),
        ("postgresql://a:1,b:2/d?target_session_attrs=read-write",
         {"host": "a,b", "port": "1,2", "dbname": "d", "target_session_attrs": "read-write"}),
        ("postgresql://h/d?sslmode=verify-full&sslrootcert=/a%20b.pem",
         {"host": "h", "dbname": "d", "sslmode": "verify-full", "sslrootcert": "/a b.pem"}),
    ],
)  # fmt: skip
def test_sockets_several_hosts_and_options_reach_every_library(url, found):
    assert parameters(url) == found
    assert of_sqlalchemy(sqlalchemy_url(url)) == found


@given(st.one_of(st.just(""), TEXTS), TEXTS, REDIS_HOSTS, PORTS, st.integers(0, 15), st.booleans())
def test_celery_and_redis_py_connect_to_redis_with_the_same_values(user, password, host, port, database, tls):
    url = f"redis{'s' if tls else ''}://{escaped(user)}:{escaped(password)}@{host}:{port}/{database}"
    theirs = redis.connection.parse_url(redis_py_url(url))
    kombu = Connection(celery_url(url))
    wanted = (host.strip("[]"), port, user or None, password, database)
    assert (
        theirs["host"], theirs["port"], theirs.get("username") or None, theirs["password"], theirs["db"]
    ) == wanted  # fmt: skip
    assert (kombu.hostname, kombu.port, kombu.userid, kombu.password, int(kombu.virtual_host)) == wanted


@pytest.mark.parametrize(
    ("said", "celery", "redis_py"),
    [
        ("", ssl.CERT_REQUIRED, None),
        ("?ssl_cert_reqs=CERT_REQUIRED", ssl.CERT_REQUIRED, "required"),
        ("?ssl_cert_reqs=required", ssl.CERT_REQUIRED, "required"),
        ("?ssl_cert_reqs=CERT_OPTIONAL", ssl.CERT_OPTIONAL, "optional"),
        ("?ssl_cert_reqs=CERT_NONE", ssl.CERT_NONE, "none"),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE, "none"),
    ],
)
def test_either_spelling_of_what_a_certificate_must_be_serves_both_libraries(said, celery, redis_py):
    url = f"rediss://:p@h:6380/0{said}"
    assert Connection(celery_url(url)).ssl["ssl_cert_reqs"] == celery
    assert redis.connection.parse_url(redis_py_url(url)).get("ssl_cert_reqs") == redis_py


def test_the_files_of_certificates_reach_both_libraries():
    url = "rediss://h/0?ssl_ca_certs=/my%20certs/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem"
    wanted = {"ssl_ca_certs": "/my certs/ca.pem", "ssl_certfile": "/c.pem", "ssl_keyfile": "/k.pem"}
    assert wanted.items() <= Connection(celery_url(url)).ssl.items()
    assert wanted.items() <= redis.connection.parse_url(redis_py_url(url)).items()


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "h"}),
        (
            "?ssl_ca_certs=/my%20ca.pem",
            {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "h", "ca_certs": "/my ca.pem"},
        ),
        ("?ssl_cert_reqs=CERT_OPTIONAL", {"cert_reqs": ssl.CERT_OPTIONAL, "server_hostname": "h"}),
        ("?ssl_check_hostname=false", {"cert_reqs": ssl.CERT_REQUIRED}),
        ("?ssl_cert_reqs=none", {"cert_reqs": ssl.CERT_NONE}),
        (
            "?ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
            {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "h", "certfile": "/c.pem", "keyfile": "/k.pem"},
        ),
    ],
)
def test_the_certificate_of_rabbitmq_is_checked_and_the_name_in_it_unless_the_url_says_otherwise(said, found):
    url = f"amqps://u:p@h:5671/v{said}"
    kombu = Connection(celery_url(url), ssl=amqp_tls(url))
    assert amqp_tls(url) == found
    assert (kombu.ssl, kombu.hostname, kombu.port, kombu.virtual_host) == (found, "h", 5671, "v")


def test_without_tls_there_are_no_options_of_it():
    assert amqp_tls("amqp://h/v") is None
    assert amqp_tls("rediss://h/0?ssl_ca_certs=/ca.pem") is None


def test_other_parameters_of_rabbitmq_stay_in_the_url():
    assert celery_url("amqps://h/v?heartbeat=10&ssl_ca_certs=/ca.pem") == "amqps://h/v?heartbeat=10"
    assert celery_url("amqp://h/v?heartbeat=10") == "amqp://h/v?heartbeat=10"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://h/v?ssl_ca_certs=/ca.pem", "write amqps://"),
        ("amqps://h/v?ssl_cert_reqs=maybe", "required, optional or none"),
        ("amqps://h/v?ssl_cacerts=/ca.pem", "parameters of TLS other than ssl_ca_certs"),
    ],
)
def test_what_rabbitmqs_tls_cannot_be_is_refused_with_a_sentence(url, says):
    with pytest.raises(ConfigurationError, match=says):
        amqp_tls(url), celery_url(url)


@pytest.mark.parametrize("url", ["redis+socket:///run/r.sock?virtual_host=3", "unix:///run/r.sock?db=3"])
def test_either_spelling_of_a_socket_serves_both_libraries(url):
    theirs = redis.connection.parse_url(redis_py_url(url))
    assert (theirs["path"], theirs["db"]) == ("/run/r.sock", 3)
    assert celery_url(url) == "redis+socket:///run/r.sock?virtual_host=3"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sentinel://h:26379/0", "Sentinel"),
        ("redis+sentinel://h:26379/0", "Sentinel"),
        ("sqs://h", "must begin with"),
        ("redis://h/jobs", "number of a database"),
        ("redis://h/0?foo=1", "parameters other than"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "required, optional or none"),
        ("h:6379", "is not a URL"),
    ],
)
def test_what_is_no_broker_is_refused_with_a_sentence(url, says):
    with pytest.raises(ConfigurationError, match=says):
        celery_url(url)


def read_all(url):
    """What any of the readers says of a URL that it refuses, tracebacks included."""
    said = []
    for read in (celery_url, redis_py_url, parameters, sqlalchemy_url):
        try:
            read(url)
        except ConfigurationError:
            said.append(traceback.format_exc())
    return "".join(said)


SECRET = st.text("/#?@:[]%&+ =\"'$", min_size=1, max_size=4).map(lambda odd: f"ZQ{odd}XJ{odd}VK")


@given(SECRET, st.sampled_from(["postgresql", "redis", "rediss", "amqp", "redis+socket", "unix"]))
def test_an_unescaped_password_is_in_no_error(password, scheme):
    said = read_all(f"{scheme}://somebody:{password}@h:1/0")
    assert [part for part in ("somebody", "ZQ", "XJ", "VK") if part in said] == []


@pytest.mark.parametrize("password", ["a/b", "a#b", "a?b", "a@b", "1/b", "1?b=c", "1#b", "a b"])
@pytest.mark.parametrize("scheme", ["postgresql", "redis", "amqp"])
def test_an_unescaped_password_is_refused_with_the_way_to_write_it(password, scheme):
    read = parameters if scheme == "postgresql" else celery_url
    with pytest.raises(ConfigurationError, match="%2F"):
        read(f"{scheme}://user:{password}@h/0")


def test_the_engine_and_the_settings_show_no_password():
    settings = Settings(_env_file=None, database_url="postgresql://u:knowledge@h/d", broker_url="redis://:knowledge@h")
    use_settings(settings)
    try:
        from cgk_tasks.sql.sqlalchemy_engine import engine

        shown = f"{settings!r} {settings} {engine()!r} {engine().url.render_as_string(hide_password=False)}"
    finally:
        use_settings(None)
    assert "knowledge" not in shown
