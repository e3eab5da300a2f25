"""How the gateway is started: by the command, inside another application, and without its extra."""

import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from cgk_tasks import extras, send_job
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.gateway import application, create_browser_token
from cgk_tasks.migrations import migrate
from tests.conftest import own_database
from tests.gateway.gateway_support import secret_of, served
from tests.gateway.stream_support import stream
from tests.support.waiting import busyness, wait_exit, wait_until
from tests.support.workers import ROOT

PAYLOAD = {"tenantId": "acme", "action": "echo"}


@pytest.fixture
def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def command(database, tmp_path):
    """The command's process, and its URL."""
    log = tmp_path / "gateway.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cgk_tasks.cli", "gateway", "--port", "0"], cwd=ROOT, stdout=out, stderr=out,
        )  # fmt: skip
    wait_until(lambda: "until Ctrl-C" in log.read_text() or process.poll() is not None, 60, "the gateway listens")
    said = log.read_text()
    assert process.poll() is None, said
    yield process, next(word for word in said.split() if word.startswith("http://")).removesuffix("/v1"), log
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(command, number):
    process, url, log = command
    secret = secret_of()
    listed = httpx.get(f"{url}/v1/runs", params={"text": "somebody"}, headers={"Authorization": f"Bearer {secret}"})
    process.send_signal(number)
    assert (listed.status_code, wait_exit(process)) == (200, 0)
    said = log.read_text()
    assert ("/v1/runs" in said, "somebody" in said, secret[-43:] in said) == (True, False, False)


def test_the_command_ends_its_streams_when_it_is_told_to_end_and_logs_no_token(command):
    process, url, log = command
    run_id = send_job("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 5.0}).id
    token = create_browser_token("acme", run_id).token
    with httpx.Client(timeout=60) as client, stream(client, f"{url}/v1/runs/{run_id}/stream", token=token) as messages:
        next(messages)
        told_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert {one.kind for one in messages} <= {"comment"}
    code = wait_exit(process)
    assert (code, time.monotonic() - told_at < 10 * busyness()) == (0, True)
    assert ("/v1/runs/{id}/stream" in log.read_text(), token in log.read_text()) == (True, False)


@pytest.fixture
def metrics(setting, free_port):
    """Where the command serves its metrics."""
    setting(CGK_GATEWAY_METRICS=f"127.0.0.1:{free_port}")
    return f"http://127.0.0.1:{free_port}/metrics"


def test_the_command_serves_what_it_has_answered_and_how_many_streams_are_open(metrics, command):
    _process, url, _log = command
    run_id = send_job("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 5.0}).id
    with httpx.Client(headers={"Authorization": f"Bearer {secret_of()}"}, timeout=60) as client:
        client.get(f"{url}/v1/runs/{run_id}")
        client.get(f"{url}/v1/runs/{run_id}", headers={"Authorization": ""})
        with stream(client, f"{url}/v1/runs/{run_id}/stream") as messages:
            next(messages)
            said = httpx.get(metrics).text
        wait_until(lambda: 'cgk_gateway_streams{about="run"} 0.0' in httpx.get(metrics).text, what="none is open")
    told = {line for line in said.splitlines() if line.startswith("cgk_gateway_")}
    assert {
        'cgk_gateway_requests_total{method="GET",route="/v1/runs/{id}",status="200"} 1.0',
        'cgk_gateway_requests_total{method="GET",route="/v1/runs/{id}",status="401"} 1.0',
        'cgk_gateway_streams{about="run"} 1.0', 'cgk_gateway_streams{about="tenant"} 0.0',
    } <= told  # fmt: skip
    assert (run_id in said, "acme" in said) == (False, False)


def test_the_commands_port_may_be_taken(command):
    _process, url, _log = command
    port = url.rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, "-m", "cgk_tasks.cli", "gateway", "--port", port], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (second.returncode, "Give another port" in second.stderr) == (1, True)


@pytest.mark.parametrize("outer", [FastAPI, Starlette])
def test_another_application_mounts_it(database, outer):
    routes = [Mount("/jobs", app=application())]
    app = FastAPI() if outer is FastAPI else Starlette(routes=routes)
    if outer is FastAPI:
        app.mount("/jobs", application())
    headers = {"Authorization": f"Bearer {secret_of()}"}
    with served(app) as url, httpx.Client(base_url=url, headers=headers) as client:
        order = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 5.0}
        sent = client.post("/jobs/v1/events/order.created", json=order)
        assert (sent.status_code, sent.headers["Location"].startswith("/jobs/v1/runs/")) == (202, True)
        assert client.get(sent.headers["Location"]).json()["id"] == sent.json()["id"]
        assert client.get("/jobs/v1/nothing").headers["Content-Type"] == "application/problem+json"


def test_a_request_that_comes_again_by_another_mount_is_the_same(database, gateway):
    app = Starlette(routes=[Mount("/jobs", app=application())])
    order = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 5.0}
    headers = {"Authorization": f"Bearer {secret_of()}", "Idempotency-Key": "by two ways"}
    with served(app) as url:
        answers = [
            httpx.post(f"{place}/v1/events/order.created", headers=headers, json=order)
            for place in (f"{url}/jobs", gateway)
        ]
    assert answers[0].json() == answers[1].json()


def test_before_its_migration_the_gateway_serves_nothing_and_says_so_where_it_is_asked(services, environment):
    with own_database(services, "template1"):
        migrate("0023")
        with served(application()) as url:
            health = httpx.get(f"{url}/v1/health/ready")
            key = "cgk_0123456789ab_" + "x" * 43
            refused = httpx.get(f"{url}/v1/runs", headers={"Authorization": f"Bearer {key}"})
    assert (health.status_code, refused.status_code, refused.json()["code"]) == (503, 503, "STORE_ERROR")


def test_without_its_extra_the_command_to_install_it_is_named(database, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "starlette" else name)
    extras.require_extra.cache_clear()
    with pytest.raises(
        ConfigurationError, match=r"^The HTTP gateway needs starlette: pip install 'cgk-tasks\[gateway\]'$"
    ):
        application()
    extras.require_extra.cache_clear()


def test_a_gateway_needs_runs_that_workers_of_this_application_execute(database, setting):
    from cgk_tasks import reset_job_client

    reset_job_client()
    setting(JOBS_PROVIDER="local")
    with pytest.raises(ConfigurationError, match="JOBS_PROVIDER"):
        application()
    reset_job_client()


def test_a_gateway_needs_a_database(database, setting):
    setting(CGK_DATABASE_URL=None, CGK_BROKER_URL=None)
    with pytest.raises(ConfigurationError, match="database"):
        application()
