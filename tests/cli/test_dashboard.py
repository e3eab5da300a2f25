"""`cgk-tasks dashboard user`, `cgk-tasks dashboard` and `cgk-tasks why`, through the real program."""

import json
import os
import subprocess
import sys

import pytest
import requests

from cgk_tasks import cancel_job, schedule_job
from cgk_tasks.dashboard.access.passwords import verify_password
from cgk_tasks.dashboard.access.users import find_account, save_user
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.dashboard_support import Dashboard, scrypt
from tests.support.workers import ROOT


@pytest.fixture
def cgk(database, tmp_path):
    """Run `cgk-tasks ...` in a folder of this test's own."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.dashboard_users")

    def run(*arguments, given=""):
        return subprocess.run(
            [sys.executable, "-m", "cgk_tasks.cli", *arguments], input=given, capture_output=True, text=True,
            cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    return run


@pytest.fixture
def old_file(tmp_path):
    """Users as they were kept before, where the default of CGK_DASHBOARD_USERS_FILE says."""
    path = tmp_path / ".cgk" / "dashboard-users.json"
    path.parent.mkdir()
    entries = [
        {"name": name, "role": role, "password": scrypt("old-password-1")}
        for name, role in (("ada", "admin"), ("bo", "viewer"))
    ]
    path.write_text(json.dumps({"users": entries}))
    return path


def users(cgk):
    return {
        row["name"]: (row["role"], row["password"])
        for row in json.loads(cgk("dashboard", "user", "list", "--json").stdout)
    }


def test_a_user_is_added_listed_changed_and_removed(cgk):
    added = cgk("dashboard", "user", "add", "ada", "--role", "operator", given="a-long-password\n")
    assert (added.returncode, added.stdout) == (0, "ada: operator\n")
    assert users(cgk) == {"ada": ("operator", True)}
    assert cgk("dashboard", "user", "set-role", "Ada", "admin").returncode == 0
    assert cgk("dashboard", "user", "set-password", "ada", given="another-password\n").returncode == 0
    assert users(cgk) == {"ada": ("admin", True)}
    assert verify_password("another-password", find_account("ada").password_hash)
    assert cgk("dashboard", "user", "remove", "ada").returncode == 0
    assert "There is no user yet." in cgk("dashboard", "user", "list").stderr


def test_a_pattern_gives_a_role_to_those_who_log_in_elsewhere(cgk):
    assert cgk("dashboard", "user", "add", "*@example.com", "--role", "viewer").returncode == 0
    assert cgk("dashboard", "user", "add", "ada@example.com", "--role", "admin", "--no-password").returncode == 0
    assert users(cgk) == {"*@example.com": ("viewer", False), "ada@example.com": ("admin", False)}


def test_the_old_file_is_imported_and_counts_no_more(cgk, old_file):
    save_user("bo", "operator", "a-long-password")
    assert "Import them" in cgk("dashboard", "user", "list").stderr
    result = cgk("dashboard", "users", "import", str(old_file))
    assert (result.returncode, result.stdout.partition(";")[0]) == (0, "1 of 2 users imported")
    assert users(cgk) == {"ada": ("admin", True), "bo": ("operator", True)}
    assert verify_password("old-password-1", find_account("ada").password_hash)
    assert not old_file.exists()


def test_a_user_of_the_old_file_is_changed_and_removed_like_any_other(cgk, old_file):
    assert cgk("dashboard", "user", "set-role", "ada", "viewer").returncode == 0
    assert users(cgk) == {"ada": ("viewer", True)}
    assert cgk("dashboard", "user", "remove", "bo").returncode == 0
    assert json.loads(old_file.read_text()) == {"users": []}


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
        (("set-password", "*@example.com"), "a-long-password\n", "is a pattern"),
    ],
)
def test_what_is_wrong_is_said(cgk, arguments, given, said):
    result = cgk("dashboard", "user", *arguments, given=given)
    assert result.returncode == 1
    assert said in result.stderr.replace("\nhint:  ", " ")


@pytest.mark.slow
def test_the_command_serves_our_pages_with_a_login(cgk, tmp_path):
    cgk("dashboard", "user", "add", "ada", given="a-long-password\n")
    dashboard = Dashboard(
        tmp_path / "log", command=("-m", "cgk_tasks.cli", "dashboard"), options=("--port", "0"),
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
