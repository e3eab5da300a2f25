"""Every connection is encrypted, and the servers' certificates are checked: PostgreSQL, Redis and RabbitMQ with TLS."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis
import trustme

from cgk_tasks import reset_job_client, send_job
from cgk_tasks.broker.publisher import close_publishers
from cgk_tasks.config import use_settings
from cgk_tasks.config.broker_url import redis_py_url
from cgk_tasks.sql.postgres import autocommit, close_pools, fetch
from cgk_tasks.tenancy import registry
from tests.conftest import QUICK
from tests.support.rabbitmq import RabbitServer, find_rabbitmq, free_ports
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import ROOT, running_worker

pytestmark = pytest.mark.slow

PASSWORD = "of-the-tests"
ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}


def postgres_with_tls() -> Path | None:
    """The folder of a PostgreSQL that was built with TLS; the private one was not."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max((folder for folder in folders if int(folder.parent.name) >= 15), default=None, key=str)


def redis_with_tls() -> str | None:
    program, client = shutil.which("redis-server"), shutil.which("redis-cli")
    if program is None or client is None:
        return None
    told = subprocess.run([client, "--help"], capture_output=True, text=True, check=False)
    return program if "--tls" in told.stdout + told.stderr else None


@pytest.fixture(scope="module")
def folder():
    made = Path(tempfile.mkdtemp(prefix="cgk-tls-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def certificates(folder):
    """The authority whose certificate clients trust, another one, and the servers' own."""
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    server.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    server.private_key_pem.write_to_path(str(folder / "server.key"))
    return folder


@pytest.fixture(scope="module")
def database_url(certificates):
    """Of a PostgreSQL that takes connections with TLS and a password only; `{ca}` stands for the authority's file."""
    programs = postgres_with_tls()
    if programs is None:
        pytest.skip("no PostgreSQL with TLS is installed (Debian: postgresql)")
    as_user = {"user": pwd.getpwnam("postgres").pw_name} if os.getuid() == 0 else {}
    home = certificates / "postgres"
    home.mkdir()
    for name in ("server.pem", "server.key"):
        shutil.copy(certificates / name, home / name)
    (home / "password").write_text(PASSWORD)
    if as_user:
        for path in (home, *home.iterdir()):
            shutil.chown(path, as_user["user"])
    (home / "server.key").chmod(0o600)
    data, [port] = home / "data", free_ports(1)
    login = ["--username", "app", "--auth", "scram-sha-256", "--pwfile", home / "password"]
    subprocess.run(
        [programs / "initdb", "-D", data, *login, "--no-sync"], check=True, capture_output=True, cwd=home, **as_user
    )
    (data / "pg_hba.conf").write_text("hostssl all app 127.0.0.1/32 scram-sha-256\n")
    settings = {
        "listen_addresses": "localhost", "port": port, "unix_socket_directories": "", "ssl": "on", "fsync": "off",
        "ssl_cert_file": home / "server.pem", "ssl_key_file": home / "server.key",
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, *options], cwd=home,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user,
    )  # fmt: skip
    url = f"postgresql://app:{PASSWORD}@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={{ca}}"

    def answers() -> bool:
        try:
            psycopg.connect(url.format(ca=certificates / "ca.pem")).close()
        except psycopg.OperationalError:
            return False
        return True

    wait_until(answers, 30, "PostgreSQL answers")
    yield url
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def broker_url(request, certificates):
    """Of a broker with TLS; `{ca}` stands for the authority's file."""
    with (_redis if request.param == "redis" else _rabbitmq)(certificates) as url:
        yield url


@contextmanager
def _redis(certificates):
    """One that listens with TLS only."""
    program = redis_with_tls()
    if program is None:
        pytest.skip("no redis-server with TLS is installed")
    [port] = free_ports(1)
    (certificates / "redis.conf").write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ntls-auth-clients no\nsave ''\nrequirepass {PASSWORD}\n"
        f"tls-cert-file {certificates}/server.pem\ntls-key-file {certificates}/server.key\n"
        f"tls-ca-cert-file {certificates}/ca.pem\nmaxmemory-policy noeviction\n"
    )
    server = subprocess.Popen([program, certificates / "redis.conf"], stdout=subprocess.DEVNULL)
    url = f"rediss://:{PASSWORD}@localhost:{port}/0?ssl_ca_certs={{ca}}"

    def answers() -> bool:
        try:
            with redis.Redis.from_url(redis_py_url(url.format(ca=certificates / "ca.pem"))) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    wait_until(answers, 10, "Redis answers")
    yield url
    server.terminate()
    server.wait(10)


@contextmanager
def _rabbitmq(certificates):
    program = find_rabbitmq()
    if program is None:
        pytest.skip("there is no rabbitmq-server on this machine")
    server = RabbitServer(program, certificates)
    yield f"amqps://guest:guest@localhost:{server.tls_port}//?ssl_ca_certs={{ca}}"
    server.close()


@pytest.fixture
def use(monkeypatch, certificates, database_url, broker_url):
    """Settings that trust the authority of this file."""
    for name in [name for name in os.environ if name.startswith("CGK_")]:
        monkeypatch.delenv(name)
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)

    def trusting(authority: str, host: str = "localhost") -> None:
        # As secrets are mounted: nothing of them is in the environment.
        for name, url in (("CGK_DATABASE_URL", database_url), ("CGK_BROKER_URL", broker_url)):
            path = certificates / f"{name}-{authority}"
            path.write_text(url.format(ca=certificates / authority).replace("localhost", host) + "\n")
            monkeypatch.setenv(f"{name}_FILE", str(path))
        _forget()

    yield trusting
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    use_settings(None)
    reset_job_client()
    registry.forget_known()
    close_pools()
    close_publishers()


def cgk(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cgk_tasks.cli", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_run_goes_from_send_to_end_through_tls_alone(use):
    use("ca.pem")
    assert cgk("migrate").returncode == 0
    assert cgk("tenants", "add", "acme").returncode == 0
    with running_worker(["tests.support.echo_jobs"]):
        run = send_job("order.created", ORDER)
        assert wait_closed(run.id).result == ORDER
        with autocommit() as connection:
            encrypted = fetch(
                connection,
                "SELECT ssl, count(*) AS connections FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE usename = 'app' AND backend_type = 'client backend' GROUP BY ssl",
            )
        assert [row["ssl"] for row in encrypted] == [True]
        doctor = cgk("doctor")
    assert doctor.returncode == 0, doctor.stdout


@pytest.mark.parametrize(
    ("authority", "host"), [("other-ca.pem", "localhost"), ("ca.pem", "127.0.0.1")], ids=["authority", "name"]
)
def test_servers_whose_certificate_is_of_another_authority_or_for_another_name_are_not_spoken_to(use, authority, host):
    use(authority, host)
    doctor = cgk("doctor")
    assert doctor.returncode == 1
    failed = {line.split()[1] for line in doctor.stdout.splitlines() if line.startswith("FAIL")}
    assert failed == {"database", "broker"}
    assert "certificate" in doctor.stdout
    assert PASSWORD not in doctor.stdout + doctor.stderr
