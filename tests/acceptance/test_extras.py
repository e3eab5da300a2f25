"""The built package, installed with one extra at a time: each part needs its own extra and no other."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

from cgk_tasks import get_run
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.docs.pages import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)  # packages come from an index

HEAVY = (
    "django",
    "flower",
    "tornado",
    "alembic",
    "apprise",
    "sqlalchemy",
    "jinja2",
    "cryptography",
    "prometheus_client",
    "starlette",
    "uvicorn",
)

SENDER = """
import json, sys
from cgk_tasks import get_run, send_job
from cgk_tasks.events import OrderCreated

run = send_job(OrderCreated(tenant_id="acme", order_id="extras", total_amount=1))
print(json.dumps({"id": run.id, "state": get_run(run.id).state, "modules": sorted(sys.modules)}))
"""

JOBS = """
from cgk_tasks import define_job

@define_job("one-more", event="order.created")
def one_more(ctx):
    from sqlalchemy import text

    return ctx.db.execute(text("SELECT 41 + 1")).scalar()
"""


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    built = run(uv, "build", "-q", "--wheel", "-o", str(folder), str(ROOT))
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


class Installed:
    """A virtual environment with the package and one extra, and a folder to work in."""

    def __init__(self, folder, wheel, extra):
        self.folder = folder
        self.bin = folder / "venv/bin"
        target = f"{wheel}[{extra}]" if extra else str(wheel)
        for command in (
            ("uv", "venv", "-q", "--python", sys.executable, str(folder / "venv")),
            ("uv", "pip", "install", "-q", "--python", str(self.bin / "python"), target),
        ):
            done = run(*command)
            assert done.returncode == 0, done.stderr

    @property
    def environment(self):
        kept = {name: value for name, value in os.environ.items() if name.startswith(("CGK_", "JOBS_"))}
        return {**kept, "PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder), "CGK_JOB_MODULES": "extras_jobs"}

    def __call__(self, program, *arguments):
        return run(str(self.bin / program), *arguments, cwd=self.folder, env=self.environment, timeout=120)

    def python(self, source):
        done = self("python", "-c", textwrap.dedent(source))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, program, *arguments):
        path = self.folder / "started.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [str(self.bin / program), *arguments], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )
        process.log = path
        return process


@pytest.fixture(scope="module")
def install(wheel, tmp_path_factory):
    """An environment with this extra, made once."""
    made = {}

    def once(extra=""):
        if extra not in made:
            made[extra] = Installed(tmp_path_factory.mktemp(extra or "plain"), wheel, extra)
            (made[extra].folder / "extras_jobs.py").write_text(JOBS)
        return made[extra]

    return once


def until(process, condition, what):
    """Wait for a started program's effect; end the program in any case."""
    try:
        wait_until(condition, timeout=60)
    except AssertionError as exc:
        said = Path(process.log).read_text(errors="replace")[-2000:]
        raise AssertionError(f"{what}; exit code {process.poll()}:\n{said}") from exc
    finally:
        process.terminate()
        process.wait(30)


def test_the_package_alone_sends_and_reads_a_run(database, install):
    sent = json.loads(install().python(SENDER))
    assert sent["state"] == "pending"
    assert get_run(sent["id"]).payload["orderId"] == "extras"


def test_a_sender_imports_nothing_of_the_extras(database, install):
    sent = json.loads(install().python(SENDER))
    assert [name for name in HEAVY if name in sent["modules"]] == []


def test_the_package_alone_installs_nothing_of_the_extras(install):
    names = ", ".join(map(repr, HEAVY))
    found = install().python(f"from importlib.util import find_spec; print([n for n in ({names}) if find_spec(n)])")
    assert found.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("cgk-tasks", "dashboard"), "The dashboard needs flower: pip install 'cgk-tasks[dashboard]'"),
        (("cgk-tasks", "migrate"), "needs alembic: pip install 'cgk-tasks[migrate]'"),
        (("cgk-tasks", "metrics"), "The command metrics needs sqlalchemy: pip install 'cgk-tasks[worker]'"),
        (("cgk-tasks", "gateway"), "The HTTP gateway needs starlette: pip install 'cgk-tasks[gateway]'"),
        (("cgk-tasks", "admin"), "The admin needs django-celery-beat: pip install 'cgk-tasks[beat]'"),
        (("cgk-tasks", "webhooks", "list", "acme"), "needs httpx: pip install 'cgk-tasks[webhooks]'"),
        (("celery", "-A", "cgk_tasks", "beat"), "Beat needs django-celery-beat: pip install 'cgk-tasks[beat]'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_part_whose_extra_is_missing_says_which(database, install, command, said):
    done = install()(*command)
    assert (done.returncode != 0, said in done.stderr) == (True, True), done.stderr


def test_the_extra_worker_runs_a_job_with_a_database_session(database, install):
    installed = install("worker")
    sent = json.loads(installed.python(SENDER))
    worker = installed.start("celery", "-A", "cgk_tasks", "worker", "-c", "1")
    until(worker, lambda: get_run(sent["id"]).is_closed, "the run was not executed")
    assert get_run(sent["id"]).result == 42


def test_the_extra_beat_runs_beat(database, install):
    assert run(sys.executable, "-m", "cgk_tasks.cli", "migrate").returncode == 0  # beat's tables too
    beat = install("beat").start("celery", "-A", "cgk_tasks", "beat")

    def leads():
        with autocommit() as connection:
            return fetch(connection, "SELECT holder FROM cgk.leases WHERE name = 'beat' AND expires_at > now()")

    until(beat, leads, "no beat leads")


def test_the_extra_dashboard_serves_the_dashboard(database, install):
    installed = install("dashboard")
    served = installed.start("cgk-tasks", "dashboard", "--port", "0")
    until(served, lambda: "dashboard: http" in served.log.read_text(), "it is not served")


def test_the_extra_gateway_serves_the_http_api(database, install):
    key = install()("cgk-tasks", "keys", "create", "acme", "--scope", "operate", "--json")
    secret, run_id = json.loads(key.stdout)["key"], json.loads(install().python(SENDER))["id"]
    served = install("gateway").start("cgk-tasks", "gateway", "--port", "0")

    def cancelled():
        found = re.search(r"(http://\S+)/v1 until", served.log.read_text())
        if found is None:
            return False
        url = f"{found[1]}/v1/runs/{run_id}/cancel"
        asked = urllib.request.Request(url, method="POST", headers={"Authorization": f"Bearer {secret}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)["state"] == "cancelled"

    until(served, cancelled, "it is not served")


def test_the_extra_migrate_sees_that_the_database_is_up_to_date(database, install):
    done = install("migrate")("cgk-tasks", "migrate", "--check")
    assert (done.returncode, done.stdout[:10]) == (0, "up to date"), done.stderr


@pytest.mark.parametrize(
    ("extra", "use"),
    [
        ("notify", "import cgk_tasks.builtin.email.jobs, cgk_tasks.builtin.messages, cgk_tasks.builtin.system.alert"),
        ("webhooks", "import cgk_tasks.builtin.webhooks.jobs"),
        ("hosted", "import cgk_tasks; cgk_tasks.create_job_client('inngest')"),
    ],
)
def test_an_extra_has_what_its_modules_import(database, install, extra, use):
    install(extra).python(use)
