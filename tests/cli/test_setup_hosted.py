"""`cgk-tasks setup jobs` and `doctor` with Inngest and Trigger.dev, which are stand-ins on loopback."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.support.hosted_server import (
    EVENT_KEY,
    SIGNING_KEY,
    TRIGGER_KEY,
    Inngest,
    TriggerDev,
    hosted_server,
)

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PREFIXES = ("CGK_", "JOB", "INNGEST_", "TRIGGER_")


class Folder:
    """A working folder, and the program in it."""

    def __init__(self, path):
        self.path = path
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
        self._env = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "TERM": "dumb",
            "CGK_PROVIDER_TIMEOUT_SECONDS": "60",
        }
        self.file = path / ".env.local"

    def run(self, *command, **env):
        return subprocess.run(
            [sys.executable, "-m", "cgk_tasks.cli", *command], cwd=self.path, env=self._env | env,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def terminal(self, *options, **env):
        return pexpect.spawn(
            sys.executable, ["-m", "cgk_tasks.cli", "setup", "jobs", *options], cwd=self.path, env=self._env | env,
            encoding="utf-8", timeout=300, dimensions=(50, 200),
        )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def trigger_dev():
    with hosted_server(TriggerDev) as server:
        yield server


@pytest.fixture(scope="module")
def inngest():
    with hosted_server(Inngest) as server:
        yield server


def answer(terminal, question, text):
    terminal.expect(question)
    if text in {EVENT_KEY, SIGNING_KEY, TRIGGER_KEY}:
        terminal.waitnoecho()
    shown = terminal.before
    terminal.sendline(text)
    return shown


def ended(terminal):
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.exitstatus, terminal.before


def test_the_secret_key_is_asked_for_checked_and_never_shown(folder, trigger_dev):
    terminal = folder.terminal("--provider", "trigger.dev")
    shown = answer(terminal, "Address of Trigger.dev", trigger_dev.url)
    shown += answer(terminal, r"The secret key, which is not shown \(TRIGGER_SECRET_KEY\)", "pk_not_a_key")
    shown += answer(terminal, "does not begin with tr_.*The secret key", TRIGGER_KEY)
    code, rest = ended(terminal)
    assert (code, TRIGGER_KEY in shown + rest, "It works" in rest) == (0, False, True), rest
    assert folder.file.read_text() == (
        f"JOBS_PROVIDER=trigger.dev\nTRIGGER_API_URL={trigger_dev.url}\nTRIGGER_SECRET_KEY={TRIGGER_KEY}\n"
    )
    assert stat.S_IMODE(folder.file.stat().st_mode) == 0o600
    assert {path.name for path in folder.path.iterdir()} == {".env.local"}

    again = folder.run("setup", "jobs", "--verify-only")
    assert (again.returncode, "Trigger.dev: reached in" in again.stderr) == (0, True), again.stderr


def test_inngests_keys_can_be_corrected_when_it_refuses_them(folder, inngest):
    wrong = SIGNING_KEY[:-1] + "0"
    folder.file.write_text(f"JOB_PROVIDER=inngest\nINNGEST_EVENT_KEY={EVENT_KEY}\nINNGEST_BASE_URL={inngest.url}\n"
                           f"INNGEST_SIGNING_KEY={wrong}\n")  # fmt: skip
    terminal = folder.terminal()
    # A real server loses the status of a refusal nowhere: 401 comes before its cache.
    shown = answer(terminal, r"Inngest cannot be used.*Enter other keys\?", "y")
    shown += answer(terminal, "The event key", EVENT_KEY)
    shown += answer(terminal, "The signing key", SIGNING_KEY)
    code, rest = ended(terminal)
    assert code == 0, rest
    assert f"INNGEST_SIGNING_KEY={SIGNING_KEY}" in folder.file.read_text()
    assert [key for key in (wrong, SIGNING_KEY, EVENT_KEY) if key in shown + rest] == []


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ({}, 3, "Set TRIGGER_SECRET_KEY."),
        ({"TRIGGER_SECRET_KEY": "pk_1"}, 3, "does not begin with tr_"),
        ({"TRIGGER_SECRET_KEY": TRIGGER_KEY, "TRIGGER_API_URL": "nowhere"}, 3, "is not an address"),
        ({"TRIGGER_SECRET_KEY": TRIGGER_KEY, "TRIGGER_API_URL": "http://127.0.0.1:1"}, 4, "cannot be reached"),
    ],
)
def test_in_a_script_what_is_missing_or_wrong_is_said(folder, settings, code, says):
    done = folder.run("setup", "jobs", "--non-interactive", "--provider", "trigger.dev", **settings)
    assert (done.returncode, says in done.stderr, folder.file.exists()) == (code, True, False), done.stderr
    assert TRIGGER_KEY not in done.stdout + done.stderr


def test_a_refused_key_in_a_script(folder, trigger_dev):
    settings = {"TRIGGER_SECRET_KEY": "tr_dev_someone_elses", "TRIGGER_API_URL": trigger_dev.url}
    done = folder.run("setup", "jobs", "--verify-only", JOBS_PROVIDER="trigger.dev", **settings)
    assert (done.returncode, "refused TRIGGER_SECRET_KEY (401" in done.stderr) == (4, True), done.stderr


def test_settings_of_the_environment_are_verified_and_not_written(folder, inngest):
    settings = {"INNGEST_EVENT_KEY": EVENT_KEY, "INNGEST_SIGNING_KEY": SIGNING_KEY, "INNGEST_BASE_URL": inngest.url}
    done = folder.run("setup:jobs", "--non-interactive", "--provider", "inngest", **settings)
    assert done.returncode == 0, done.stderr
    assert folder.file.read_text() == "JOBS_PROVIDER=inngest\n"


def test_no_event_is_sent_to_verify(trigger_dev, inngest):
    assert {method for server in (trigger_dev, inngest) for method, *_rest in server.requests} <= {"GET"}


def test_the_doctor_looks_at_the_hosted_system(folder, trigger_dev):
    settings = {"JOBS_PROVIDER": "trigger.dev", "TRIGGER_SECRET_KEY": TRIGGER_KEY, "TRIGGER_API_URL": trigger_dev.url}
    well = folder.run("doctor", **settings)
    assert (well.returncode, "knows the key" in well.stdout, "No database is configured" in well.stdout) == (
        0,
        True,
        True,
    )
    ill = folder.run("doctor", **settings | {"TRIGGER_SECRET_KEY": "tr_dev_wrong"})
    assert (ill.returncode, "refused TRIGGER_SECRET_KEY" in ill.stdout) == (1, True), ill.stdout


def test_the_command_send_sends_there(folder, trigger_dev):
    before = len(trigger_dev.requests)
    settings = {"JOBS_PROVIDER": "trigger.dev", "TRIGGER_SECRET_KEY": TRIGGER_KEY, "TRIGGER_API_URL": trigger_dev.url}
    done = folder.run("send", "order.cancelled", '{"orderId": "o-1"}', "--tenant", "acme", **settings)
    sent = trigger_dev.requests.pop()
    assert (done.stdout[:4], sent[1], len(trigger_dev.requests)) == (
        "run_", "/api/v1/tasks/order.cancelled/trigger", before,
    ), done.stderr  # fmt: skip


@pytest.mark.parametrize("program", ["worker", "beat"])
def test_a_worker_without_a_database_says_where_jobs_run(folder, program):
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "cgk_tasks", program], cwd=folder.path, capture_output=True, text=True,
        env=folder._env | {"JOBS_PROVIDER": "inngest", "INNGEST_EVENT_KEY": EVENT_KEY}, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "JOBS_PROVIDER is inngest: jobs run there" in done.stdout + done.stderr
