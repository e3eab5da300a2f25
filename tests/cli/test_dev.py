"""`cgk-tasks dev` as a real process in a folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from urllib.request import urlopen

import psutil
import pytest

from tests.support.waiting import wait_exit, wait_until

pytestmark = pytest.mark.timeout(600)

JOBS = """
from cgk_tasks import define_job

@define_job("greet", event="order.created")
def greet(ctx):
    return "version 1"
"""


class Folder:
    """A working folder with one job, its terminal with `dev`, and a second terminal."""

    def __init__(self, path):
        self.path = path
        (path / "shop_jobs.py").write_text(JOBS)
        (path / ".env.local").write_text("CGK_JOB_MODULES=shop_jobs\n")
        self._env = {name: value for name, value in os.environ.items() if not name.startswith(("CGK_", "JOBS_"))}
        self._seen = 0
        self.dev = None

    @property
    def shown(self):
        return (self.path / "terminal.log").read_text(errors="replace")

    def start(self, *options, **env):
        with (self.path / "terminal.log").open("wb") as log:
            self.dev = subprocess.Popen(
                [sys.executable, "-m", "cgk_tasks.cli", "dev", "--flower-port", "0", *options],
                cwd=self.path, env=self._env | env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.wait_shown(" ready.")

    def wait_shown(self, text):
        """Until the text is shown after what was waited for before."""

        def position():
            assert self.dev.poll() is None, self.shown
            return self.shown.find(text, self._seen) + 1

        self._seen = wait_until(position, 60, f"{text!r} in {self.path / 'terminal.log'}")

    def after_a_restart(self, why):
        """Until the worker is ready again, for a reason that is shown."""
        self.wait_shown(why)
        self.wait_shown(" ready.")

    def cgk(self, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", "cgk_tasks.cli", *arguments],
            cwd=self.path, env=self._env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + self.shown
        return done.stdout

    def greeting(self):
        payload = '{"orderId": "o-1", "totalAmount": 1}'
        return json.loads(self.cgk("send", "order.created", payload, "--tenant", "acme", "--wait", "40"))

    def processes(self):
        """Every process of the session: dev's children, their children, the servers."""
        return psutil.Process(self.dev.pid).children(recursive=True)

    def end(self, number):
        """Send a signal; the exit code and the processes that outlived it."""
        family = self.processes()
        assert len(family) >= 3, family
        self.dev.send_signal(number)
        code = wait_exit(self.dev, 40)
        _gone, alive = psutil.wait_procs(family, timeout=120)
        return code, alive

    def clean_up(self):
        if self.dev is not None and self.dev.poll() is None:
            family = self.processes()
            self.dev.terminate()
            try:
                self.dev.wait(40)
            except subprocess.TimeoutExpired:
                self.dev.kill()
            for process in psutil.wait_procs(family, timeout=20)[1]:
                process.kill()


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path)
    yield made
    made.clean_up()


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One session with everything, for the tests that leave it running."""
    made = Folder(tmp_path_factory.mktemp("shop"))
    made.start()
    made.cgk("tenants", "add", "acme")
    yield made
    made.clean_up()


def test_it_shows_first_what_to_type_in_a_second_terminal(session):
    assert session.shown.startswith("In a second terminal, in this folder:\n  cgk-tasks tenants add acme")


@pytest.mark.parametrize(
    "line",
    [
        r"services \| PostgreSQL and Redis ready",
        r"worker   \| .* ready\.",
        r"beat     \| ",
        r"flower   \| http://127",
    ],
)
def test_each_line_stands_after_the_name_of_its_program(session, line):
    wait_until(lambda: re.search(f"^{line}", session.shown, re.MULTILINE), 40, line)


def test_flower_answers_on_loopback(session):
    url = re.search(r"http://127\.0\.0\.1:\d+", session.shown).group()

    def answers():
        try:
            return urlopen(f"{url}/healthcheck", timeout=5).read()
        except OSError:
            return None

    assert wait_until(answers, 40) == b"OK"


def test_the_doctor_finds_nothing_broken_in_a_second_terminal(session):
    levels = {finding["check"]: finding["level"] for finding in json.loads(session.cgk("doctor", "--json"))}
    assert "FAIL" not in levels.values()
    assert levels["jobs"] == levels["broker"] == levels["database"] == "OK"


def test_a_tenants_credential_is_stored_without_thinking_of_a_key(session):
    session.cgk("tenants", "set", "acme", "smtp_url", "smtps://user:planted@mail.example")
    (finding,) = [one for one in json.loads(session.cgk("doctor", "--json")) if one["check"] == "secrets"]
    assert (finding["level"], finding["message"]) == ("OK", "1 stored, all can be read here")


def test_a_changed_file_that_the_jobs_do_not_import_reloads_nothing(session):
    (session.path / "notes.py").write_text("x = 1")
    (session.path / "shop_jobs.py").write_text(JOBS)
    session.after_a_restart("shop_jobs.py changed, reloading")
    assert "notes.py changed" not in session.shown


def test_a_file_that_a_function_imports_when_it_runs_reloads(session):
    (session.path / "texts.py").write_text("TEXT = 'version 3'")
    (session.path / "shop_jobs.py").write_text(JOBS.replace('return "version 1"', "import texts; return texts.TEXT"))
    session.after_a_restart(" changed, reloading")
    assert session.greeting() == "version 3"
    (session.path / "texts.py").write_text("TEXT = 'version 4'")
    session.after_a_restart("texts.py changed, reloading")
    assert session.greeting() == "version 4"


def test_a_run_that_a_reload_interrupts_runs_again_and_it_counts_as_no_death(session):
    slow = JOBS.replace("def greet(ctx):", "def greet(ctx):\n    import time, pathlib; SLOW")
    begun = session.path / "begun"
    wait = f"pathlib.Path({str(begun)!r}).touch(); time.sleep(120)"
    (session.path / "shop_jobs.py").write_text(slow.replace("SLOW", wait))
    session.after_a_restart("shop_jobs.py changed, reloading")
    run = session.cgk("send", "order.created", '{"orderId": "o-1", "totalAmount": 1}', "--tenant", "acme").strip()
    wait_until(begun.exists, 40, "the job has begun")
    (session.path / "shop_jobs.py").write_text(JOBS)
    session.after_a_restart("run_interrupted")

    def record():
        found = json.loads(session.cgk("runs", "show", run, "--json"))
        return found if found["state"] == "completed" else None

    ended = wait_until(record, 40, "the run has run again")
    assert (ended["deaths"], ended["attempt"], ended["result"]) == (0, 1, "version 1")


def test_changed_code_is_loaded(session):
    (session.path / "shop_jobs.py").write_text(JOBS.replace("version 1", "version 2"))
    session.after_a_restart("shop_jobs.py changed, reloading")
    assert session.greeting() == "version 2"


def test_a_worker_that_dies_is_started_again(session):
    next(process for process in session.processes() if "worker" in process.cmdline()).kill()
    session.after_a_restart("was killed by SIGKILL; it starts again in")
    assert session.greeting().startswith("version ")


def test_ctrl_c_stops_everything_and_leaves_no_process(folder):
    folder.start("--no-flower")
    assert folder.end(signal.SIGINT) == (0, [])
    assert folder.shown.rstrip().endswith("services | stopped")


def test_a_kill_leaves_no_process(folder):
    folder.start("--no-beat", "--no-flower")
    assert folder.end(signal.SIGKILL) == (-signal.SIGKILL, [])


def test_services_that_are_named_are_used_and_sigterm_leaves_no_process(folder, services, database):
    folder.start(
        "--no-beat",
        "--no-flower",
        CGK_DATABASE_URL=database,
        CGK_BROKER_URL=services.broker_url,
    )
    assert not (folder.path / ".cgk" / "postgres").exists()
    assert folder.end(signal.SIGTERM) == (0, [])
