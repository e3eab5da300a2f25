"""Tracebacks of a process whose logs nobody has set up."""

import subprocess
import sys

import pytest

PROGRAM = """
import os
os.environ.update(JOBS_PROVIDER="local", CGK_LOG_TRACEBACKS="true")
{configure}
from cgk_tasks import define_job, trigger_and_wait

@define_job("charge", event="order.delivered")
def charge(ctx):
    card = "4242 " * 4
    raise ValueError("declined")

result = trigger_and_wait("order.delivered", {{"tenantId": "acme", "orderId": "o-1"}})
assert not result.ok
"""


@pytest.fixture
def output(tmp_path):
    def run(configure=""):
        command = [sys.executable, "-c", PROGRAM.format(configure=configure)]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        return done.stdout + done.stderr

    return run


def test_they_show_no_local_variables(output):
    printed = output()
    assert "ValueError: declined" in printed
    assert "4242 4242" not in printed


def test_an_application_that_has_set_up_structlog_has_its_own_way(output):
    own = "import structlog; structlog.configure(processors=[lambda *line: f'own: {line[2]}'])"
    assert "own: " in output(own)
