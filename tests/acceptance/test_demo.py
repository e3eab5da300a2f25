"""The demo, as a stranger sees it: one command, its output, its exit code, and nothing left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from decimal import Decimal

import psutil
import pytest

from cgk_tasks.demo.purchases import TENANTS, read_purchases, sums_by_tenant
from tests.support.waiting import wait_until

DEMO = "from cgk_tasks.demo import run; raise SystemExit(run())"

# The demo on a part of its file: all of it takes half a minute of both cores, which `make demo` spends.
SMALL_DEMO = """
from cgk_tasks.demo import demonstration, run
everything = demonstration.read_purchases()
demonstration.read_purchases = lambda: everything[:{orders}]
{fault}
raise SystemExit(run())
"""

A_CENT_MISSING = """
from dataclasses import replace
from decimal import Decimal
right = demonstration.sums_by_tenant
demonstration.sums_by_tenant = lambda purchases: {
    tenant: replace(sums, revenue=sums.revenue + Decimal("0.01")) for tenant, sums in right(purchases).items()
}
"""


@pytest.fixture
def start_demo(tmp_path):
    """Start the demo in an empty folder, with settings around that must not matter to it."""
    started = []

    def start(code=DEMO):
        env = {
            **os.environ,
            "CGK_DATABASE_URL": "postgresql://nobody@localhost:1/none",
            "TMPDIR": str(tmp_path),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def descendants(process):
    return psutil.Process(process.pid).children(recursive=True)


def wait_for_worker(process):
    """The demo's worker, once it has its two children."""

    def worker():
        for child in psutil.Process(process.pid).children():
            with contextlib.suppress(psutil.Error):
                if "celery" in " ".join(child.cmdline()) and len(child.children()) == 2:
                    return child
        return None

    return wait_until(worker, 60, "the demo's worker with two children")


def read_until(process, text):
    """Read the output until a line has this text."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the demo ended with {process.wait()} before it said {text!r}")


def none_lives(processes):
    return wait_until(lambda: not any(one.is_running() for one in processes), 30, "the end of every process")


def test_the_file_has_the_sums_that_the_demo_is_measured_by():
    sums = sums_by_tenant(read_purchases())
    assert set(sums) == set(TENANTS)
    assert sum(one.orders for one in sums.values()) == 6919
    assert sum(one.revenue for one in sums.values()) == Decimal("244091.94")


def test_every_order_runs_and_each_tenants_revenue_is_the_files_to_the_cent(start_demo):
    process = start_demo(SMALL_DEMO.format(orders=800, fault=""))
    output, _ = process.communicate()
    revenue = f"{sum(one.revenue for one in sums_by_tenant(read_purchases()[:800]).values()):,}"
    assert process.returncode == 0, output
    assert f"Right to the cent: {revenue} $ in 3 tenants." in output
    assert re.search(rf"total .* 800 .* 800 .* {revenue} .* {revenue}", output)
    assert "30 done, 12 scheduled for next year" in output


def test_a_difference_of_one_cent_fails_the_demo(start_demo):
    process = start_demo(SMALL_DEMO.format(orders=200, fault=A_CENT_MISSING))
    output, _ = process.communicate()
    assert process.returncode == 1
    assert f"Wrong: {', '.join(TENANTS)}" in output


def test_a_worker_that_ends_fails_the_demo_and_its_log_is_shown(start_demo):
    process = start_demo()
    read_until(process, "Sent 6,919")
    worker = wait_for_worker(process)
    everything = descendants(process)
    worker.kill()
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "demo-worker-1 ended with exit code -9" in output
    assert "The last lines of the log of demo-worker-1" in output
    assert none_lives(everything)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_stops_everything_it_has_started(start_demo, tmp_path, number, exit_code):
    process = start_demo()
    read_until(process, "Sent 6,919")
    wait_for_worker(process)
    everything = descendants(process)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == exit_code, output
    assert none_lives(everything)
    assert not list(tmp_path.glob("cgk-*"))


def test_a_demo_that_is_killed_leaves_no_process(start_demo):
    process = start_demo()
    read_until(process, "Sent 6,919")
    wait_for_worker(process)
    everything = descendants(process)
    process.kill()
    assert none_lives(everything)
