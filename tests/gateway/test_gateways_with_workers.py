"""`cgk-tasks gateway --with-worker`: it serves, runs jobs, and ends in order."""

import re
import signal
import subprocess
import sys

import httpx
import pytest

from cgk_tasks import get_run, send_job
from tests.gateway.gateway_support import secret_of
from tests.support.jobs import Behave
from tests.support.waiting import wait_exit, wait_until
from tests.support.workers import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def gateway(database, tmp_path, setting):
    """One in a process of its own; its address, and its log."""
    log = tmp_path / "gateway.log"
    setting(CGK_JOB_MODULES="tests.support.jobs", CGK_STOP_GRACE_SECONDS="20")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cgk_tasks.cli", "gateway", "--port", "0", "--with-worker", "--concurrency", "2"],
            cwd=ROOT, stdout=out, stderr=out,
        )  # fmt: skip
    wait_until(lambda: "until Ctrl-C" in log.read_text() or process.poll() is not None, 60, "the gateway listens")
    yield process, re.search(r"(http://\S+)/v1 until", log.read_text())[1], log
    process.kill()
    process.wait()


def test_what_is_sent_by_http_runs_in_the_same_process(gateway):
    _process, url, _log = gateway
    headers = {"Authorization": f"Bearer {secret_of()}"}
    payload = {"tenantId": "acme", "action": "echo", "argument": "by http"}
    with httpx.Client(base_url=url, headers=headers) as client:
        sent = client.post("/v1/events/test.behave", json=payload)
        found = client.get(f"/v1/runs/{sent.json()['id']}/result", params={"wait": "20"})
    assert (found.status_code, found.json()["result"]) == (200, "by http")


def test_it_waits_for_jobs_when_it_is_told_to_end(gateway, tmp_path):
    process, _url, log = gateway
    run = send_job(Behave(tenant_id="acme", action="wait_for_file", argument=str(tmp_path / "go"))).id
    wait_until((tmp_path / "go.started").exists, what="its job is on")
    process.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    assert wait_exit(process) == 0, log.read_text()
    assert get_run(run).result == "released"
    assert "Traceback" not in log.read_text()
