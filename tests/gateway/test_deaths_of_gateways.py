"""A gateway that is killed amid a request: what it has sent is not lost, and is not sent twice."""

import re
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from cgk_tasks import cancel_run, send_job
from cgk_tasks.config import get_settings
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.gateway.gateway_support import secret_of
from tests.gateway.stream_support import stream, until_state
from tests.gateway.webhook_secrets import SECRETS, STANDARD
from tests.support import (
    jobs,  # noqa: F401 - defines test.behave
    signing,
)
from tests.support.waiting import wait_until
from tests.support.workers import ROOT

pytestmark = pytest.mark.slow

PAYLOAD = {"tenantId": "acme", "action": "echo", "argument": "once"}


@contextmanager
def started_gateway(folder, setting, module):
    """A gateway in a process of its own: it and its URL."""
    log = folder / "gateway.log"
    setting(CGK_JOB_MODULES=module)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cgk_tasks.cli", "gateway", "--port", "0"], cwd=ROOT, stdout=out, stderr=out
        )
    try:
        wait_until(lambda: "until Ctrl-C" in log.read_text() or process.poll() is not None, 60, "the gateway listens")
        yield process, re.search(r"(http://\S+)/v1 until", log.read_text())[1]
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def doomed(database, tmp_path, setting):
    """A gateway in a process of its own."""
    with started_gateway(tmp_path, setting, "tests.support.jobs") as process_and_url:
        yield process_and_url


@contextmanager
def locked(table, mode):
    """Others wait for this table. Gives what ends the connections of those who do."""
    with psycopg.connect(get_settings().database, autocommit=True) as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {table} IN {mode} MODE")
        me = connection.info.backend_pid
        yield lambda: connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))", (me,)
        )


def found(sql, **values):
    with autocommit() as connection:
        return fetch(connection, sql, values)


def waiters():
    return found("SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0]["n"]


def runs_of(key):
    return [
        row["run_id"] for row in found("SELECT run_id::text FROM cgk.idempotency_keys WHERE key = %(key)s", key=key)
    ]


def send(url, secret, key):
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": key}
    return httpx.post(f"{url}/v1/events/test.behave", headers=headers, json=PAYLOAD, timeout=60)


def send_and_die(url, secret, key):
    with pytest.raises(httpx.HTTPError):
        send(url, secret, key)


def test_a_gateway_that_dies_between_a_send_and_its_answer_has_sent_once(gateway, doomed):
    process, url = doomed
    secret = secret_of()
    request = threading.Thread(target=send_and_die, args=(url, secret, "dying"))
    with locked("cgk.idempotency_keys", "SHARE"):
        request.start()
        wait_until(lambda: found("SELECT 1 FROM cgk.api_requests WHERE key = 'dying'"), what="the request has begun")
        wait_until(waiters, what="the send waits")
        answering = locked("cgk.api_requests", "SHARE")
        end_waiting = answering.__enter__()
    (run_id,) = wait_until(lambda: runs_of("dying"), what="it was sent")
    wait_until(waiters, what="the answer is being recorded")
    process.kill()
    end_waiting()
    answering.__exit__(None, None, None)
    request.join(20)

    assert send(gateway, secret, "dying").json()["code"] == "REQUEST_IN_PROGRESS"
    found("UPDATE cgk.api_requests SET locked_until = now() WHERE key = 'dying' RETURNING 1")  # a minute later
    again = send(gateway, secret, "dying")
    assert (again.status_code, again.json()) == (200, {"id": run_id, "outcome": "deduplicated"})
    assert runs_of("dying") == [run_id]


def test_a_gateway_that_dies_before_it_has_sent_leaves_nothing_in_the_way(gateway, doomed):
    process, url = doomed
    secret = secret_of()
    request = threading.Thread(target=send_and_die, args=(url, secret, "dying early"))
    with locked("cgk.idempotency_keys", "SHARE") as end_waiting:
        request.start()
        wait_until(lambda: found("SELECT 1 FROM cgk.api_requests WHERE key = 'dying early'"), what="it has begun")
        wait_until(waiters, what="the send waits")
        process.kill()
        end_waiting()
    request.join(20)
    assert runs_of("dying early") == []
    found("UPDATE cgk.api_requests SET locked_until = now() WHERE key = 'dying early' RETURNING 1")
    assert send(gateway, secret, "dying early").status_code == 202


def deliver(url, delivery):
    body = b'{"type": "echo", "text": "once"}'
    headers = signing.standard(body, STANDARD, delivery=delivery) | {"Content-Type": "application/json"}
    return httpx.post(f"{url}/v1/webhooks/events", headers=headers, content=body, timeout=60)


def deliver_and_die(url, delivery):
    with pytest.raises(httpx.HTTPError):
        deliver(url, delivery)


@pytest.fixture
def secrets(setting):
    setting(**SECRETS, CGK_GATEWAY_URL="https://jobs.example.com")


@pytest.fixture
def doomed_receiver(secrets, database, tmp_path, setting):
    """A gateway with sources of webhooks, in a process of its own."""
    with started_gateway(tmp_path, setting, "tests.gateway.webhook_sources") as process_and_url:
        yield process_and_url


def test_a_webhook_whose_gateway_dies_is_one_run_after_the_sender_has_called_again(
    doomed_receiver, secrets, tmp_path_factory, setting
):
    process, url = doomed_receiver
    request = threading.Thread(target=deliver_and_die, args=(url, "msg_dying"))
    with locked("cgk.idempotency_keys", "SHARE"):
        request.start()
        wait_until(waiters, what="the send waits")
        process.kill()
    request.join(20)
    with started_gateway(tmp_path_factory.mktemp("again"), setting, "tests.gateway.webhook_sources") as (_, other):
        assert deliver(other, "msg_dying").status_code in {200, 202}
        assert deliver(other, "msg_dying").status_code == 200
    assert len(runs_of("webhook:events:msg_dying")) == 1


@pytest.mark.parametrize("path", ["/v1/runs/{}/stream", "/v1/stream"])
def test_who_watched_through_a_gateway_that_died_is_told_by_another_what_has_happened_since(gateway, doomed, path):
    process, url = doomed
    run_id = send_job("test.behave", PAYLOAD, queue="nobody-listens").id
    with httpx.Client(headers={"Authorization": f"Bearer {secret_of()}"}, timeout=60) as client:
        with stream(client, f"{url.removesuffix('/v1')}{path.format(run_id)}") as messages:
            last = until_state(messages, run_id, "pending")[-1].id
            process.kill()
            with pytest.raises(httpx.HTTPError):
                list(messages)
        cancel_run(run_id)
        with stream(client, f"{gateway}{path.format(run_id)}", last_id=last) as messages:
            assert until_state(messages, run_id, "cancelled")
