"""benchmarks/admission.py has a line for each of its budgets. What they say on a busy machine is not judged."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = ("--waiting", "5000", "--tenants", "500", "--runs", "1000", "--flood", "1500", "--probes", "20")

LINES = (
    "a pass, for each run that it admits",
    "a pass that admits nothing",
    "runs that are sent and executed meanwhile",
    "processor time of PostgreSQL for each of them",
    "PostgreSQL, while nothing is sent",
    "the worker, while nothing is sent",
    "admitted, of 1 tenant",
    "admitted, of 500 tenants",
    "a lone run beside a flood of 1,500",
    "a run of priority 0 among 20 of priority 9",
)


def test_each_budget_of_admission_is_measured():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CGK_")}
    command = [sys.executable, "benchmarks/admission.py", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    lines = [line.removeprefix("| ") for line in done.stdout.splitlines()]
    assert [what for what in LINES if not any(line.startswith(what) for line in lines)] == [], done.stdout + done.stderr
