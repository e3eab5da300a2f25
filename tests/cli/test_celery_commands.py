"""The commands of `celery -A cgk_tasks` that need no worker, or start one."""

import subprocess
import sys

import pytest

from cgk_tasks import get_job_status
from cgk_tasks.tenancy import tenant_context
from tests.integration import canvas_tasks as tasks
from tests.support.waiting import wait_closed, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


def celery(*arguments, folder="."):
    command = [sys.executable, "-m", "celery", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.setenv("CGK_JOB_MODULES", tasks.__name__)
    monkeypatch.setenv("CGK_LOG_LEVEL", "INFO")


def test_call_sends_a_task_for_the_tenant_that_it_names():
    sent = celery("-A", "cgk_tasks", "call", tasks.add.name, "--args", "[1, 2]", "--tenant", "acme")
    run = get_job_status(sent.stdout.strip())
    assert (run.tenant_id, run.payload["args"]) == ("acme", [1, 2])


def test_call_without_a_tenant_says_how_to_name_one():
    refused = celery("-A", "cgk_tasks", "call", tasks.add.name, "--args", "[1, 2]")
    assert refused.returncode == 1
    assert "--tenant" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_call_sends_an_event_for_the_tenant_of_its_payload():
    sent = celery("-A", "cgk_tasks", "call", "order.cancelled", "--kwargs", '{"tenantId": "globex", "orderId": "o"}')
    assert get_job_status(sent.stdout.strip()).tenant_id == "globex"


def test_result_shows_what_a_task_returned_and_knows_its_module(start_worker):
    start_worker([tasks.__name__])
    with tenant_context("acme"):
        result, failed = tasks.add.delay(1, 2), tasks.fail.delay("no money")
    wait_closed(result.id), wait_closed(failed.id)
    assert celery("-A", "cgk_tasks", "result", result.id).stdout == "3\n"
    assert celery("-A", "cgk_tasks", "result", "--task", tasks.add.name, result.id).stdout == "3\n"
    assert f"{tasks.__name__}.NotEnoughMoney: no money" in celery("-A", "cgk_tasks", "result", failed.id).stderr


@pytest.mark.parametrize("command", [("revoke",), ("terminate", "SIGTERM")])
def test_control_cancels_the_run_that_it_revokes(start_worker, command):
    worker = start_worker([tasks.__name__])
    with tenant_context("acme"):
        waits = tasks.add.apply_async((1, 2), countdown=3600)
    told = celery("-A", "cgk_tasks", "control", "-t", "20", "-d", worker.name, *command, waits.id)
    assert worker.name in told.stdout
    assert get_job_status(waits.id).state == "cancelled"


REFUSED = {
    "shop_with_broadcast": ("app.conf.task_queues = [Broadcast('everybody')]", "Broadcast queue (everybody)"),
    "shop_with_pickles": ("app.conf.task_serializer = 'pickle'", "task_serializer is 'pickle'"),
    "shop_with_a_task": (
        "@shared_task(name='shop.pay', serializer='pickle')\ndef pay(): pass",
        "serializer of the task shop.pay",
    ),
}
IMPORTS = "from celery import shared_task; from kombu.common import Broadcast; from cgk_tasks import Celery"


@pytest.mark.parametrize("module", REFUSED)
def test_a_worker_with_settings_that_cannot_hold_says_so_without_a_traceback(tmp_path, monkeypatch, module):
    from tests.support.workers import ROOT

    line, said = REFUSED[module]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / f"{module}.py").write_text(f"{IMPORTS}\napp = Celery('{module}')\n{line}\n")
    refused = celery("-A", module, "worker", folder=tmp_path)
    assert (refused.returncode, said in refused.stderr, "Traceback" in refused.stderr) == (1, True, False)


def test_multi_starts_and_stops_a_worker_that_logs_to_its_file(tmp_path, monkeypatch):
    from tests.support.workers import ROOT

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    files = (f"--pidfile={tmp_path}/%n.pid", f"--logfile={tmp_path}/%n.log")
    started = celery("multi", "start", "w1", "-A", "cgk_tasks", "-c", "1", *files, folder=tmp_path)
    try:
        wait_until(
            lambda: "ready." in (tmp_path / "w1.log").read_text(), 60, "the worker says in its file that it is up"
        )
    finally:
        stopped = celery("multi", "stopwait", "w1", "-A", "cgk_tasks", *files, folder=tmp_path)
    assert (started.returncode, stopped.returncode) == (0, 0)
    assert not (tmp_path / "w1.pid").exists()
