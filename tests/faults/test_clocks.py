"""The clocks of machines differ: processes whose clock is two minutes off PostgreSQL's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from cgk_tasks import get_job_status
from cgk_tasks.cli.doctor import work
from cgk_tasks.cli.doctor.findings import WARN
from cgk_tasks.monitoring.exporter import exposition
from tests.faults.journal import wait_completed
from tests.support.waiting import wait_until
from tests.support.workers import ROOT, list_workers

SHIM = Path(__file__).parent.parent / "support" / "shifted_clock.c"


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> str:
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("the clock of a process is shifted with a C compiler on Linux")
    library = tmp_path_factory.mktemp("shim") / "shifted_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl"], check=True)
    return str(library)


@pytest.fixture(params=[-120, 120])
def shift(request) -> int:
    return request.param


@pytest.fixture
def worker_environment(shim, shift) -> dict[str, str]:
    return {"LD_PRELOAD": shim, "CLOCK_SHIFT_SECONDS": str(shift)}


def test_a_leader_whose_clock_is_off_finds_lost_messages_as_soon_as_another(worker, journal, services):
    worker.kill_group()
    runs = journal.send(20)
    with redis.Redis.from_url(services.broker_url) as client:
        client.flushall()
    worker.restart()
    wait_completed(runs, 30)


def test_doctor_and_a_metric_tell_how_far_it_is_off(worker, shift):
    def measured():
        return [row for row in list_workers() if row["name"] == worker.name() and row["clock_offset_seconds"]]

    rows = wait_until(measured, what="an offset on record")
    finding = work.worker_clocks(rows)[0]
    assert abs(rows[0]["clock_offset_seconds"] - shift) < 2
    assert finding.level == WARN
    shown = re.search(f'^cgk_worker_clock_offset_seconds{{worker="{worker.name()}"}} (.+)$', exposition(), re.MULTILINE)
    assert abs(float(shown[1]) - shift) < 2


def test_a_run_that_is_sent_with_a_delay_waits_as_long_as_it_says(shim, shift, worker, journal):
    code = "import sys; from cgk_tasks import send_job; from tests.faults.jobs import Work; "
    code += "print(send_job(Work(tenant_id='acme', journal=sys.argv[1]), delay=600, expires=1200).id)"
    environment = {**os.environ, "LD_PRELOAD": shim, "CLOCK_SHIFT_SECONDS": str(shift), "PYTHONPATH": str(ROOT)}
    sent = subprocess.run(
        [sys.executable, "-c", code, str(journal.folder)], env=environment, cwd=ROOT, check=True, capture_output=True
    )
    status = get_job_status(sent.stdout.decode().split()[-1])
    assert abs((status.run_at - status.created_at).total_seconds() - 600) < 10
    assert abs((status.expires_at - status.created_at).total_seconds() - 1200) < 10
