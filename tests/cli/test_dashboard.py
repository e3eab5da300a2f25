"""`cgk-tasks dashboard user`, `cgk-tasks dashboard` and `cgk-tasks why`, through the real program."""

import json
import os
import subprocess
import sys

import pytest
import requests

from cgk_tasks import cancel_job, schedule_job
from tests.dashboard.dashboard_support import Dashboard
from tests.support.workers import ROOT


@pytest.fixture
def cgk(environment, tmp_path):
    """Run `cgk-tasks ...` with a users file of this test's own."""

    def run(*arguments, given=""):
        return subprocess.run(
            [sys.executable, "-m", "cgk_tasks.cli", *arguments], input=given, capture_output=True, text=True,
            timeout=60,
            cwd=tmp_path, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CGK_DASHBOARD_USERS_FILE": str(tmp_path / "users.json")},
        )  # fmt: skip

    return run


def test_a_user_is_added_listed_and_removed(cgk):
    added = cgk("dashboard", "user", "add", "ada", "--role", "operator", given="a-long-password\n")
    assert (added.returncode, added.stdout.partition(",")[0]) == (0, "ada: operator")
    assert json.loads(cgk("dashboard", "user", "list", "--json").stdout) == [{"name": "ada", "role": "operator"}]
    assert cgk("dashboard", "user", "remove", "ada").returncode == 0
    assert "There is no user yet." in cgk("dashboard", "user", "list").stderr


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (
            ("add", "ada", "--role", "king"),
            "a-long-password\n",
            "There is no role 'king'. There are: viewer, operator, admin.",
        ),
        (("add", "ada"), "short\n", "at least 10 characters"),
        (("remove", "ada"), "", "There is no user 'ada'"),
    ],
)
def test_what_is_wrong_is_said(cgk, arguments, given, said):
    result = cgk("dashboard", "user", *arguments, given=given)
    assert result.returncode == 1
    assert said in result.stderr.replace("\nhint:  ", " ")


@pytest.mark.slow
def test_the_command_serves_our_pages_with_a_login(database, cgk, tmp_path):
    cgk("dashboard", "user", "add", "ada", given="a-long-password\n")
    dashboard = Dashboard(
        tmp_path / "log", command=("-m", "cgk_tasks.cli", "dashboard"), options=("--port", "0"),
        CGK_DASHBOARD_USERS_FILE=str(tmp_path / "users.json"),
    )  # fmt: skip
    try:
        assert requests.get(f"{dashboard.url}/runs", auth=("ada", "a-long-password"), timeout=30).ok
        assert requests.get(f"{dashboard.url}/runs", timeout=30).status_code == 401
    finally:
        dashboard.stop()


def test_why_prints_the_gates(database, cgk):
    run_id = schedule_job("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}, delay=7200).id
    assert cgk("why", run_id).stdout.startswith("It is not due until")
    found = json.loads(cgk("why", run_id, "--json").stdout)
    assert (found["state"], [gate["code"] for gate in found["gates"]]) == ("scheduled", ["not_due"])
    cancel_job(run_id)


def test_why_of_an_unknown_run_fails_with_a_hint(database, cgk):
    result = cgk("why", "nonsense")
    assert result.returncode == 1
    assert "There is no run nonsense." in result.stderr
