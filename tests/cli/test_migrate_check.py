"""`cgk-tasks migrate-check`: an application of plain Celery, read as it stands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SHOP = """
import threading
from celery import Celery
from kombu.common import Broadcast

app = Celery("shop", broker="redis://:open-sesame@elsewhere:6379/0", backend="redis://localhost:6379/1")
app.conf.update(task_serializer="pickle", task_send_sent_event=True)
app.conf.beat_schedule = {
    "nightly": {"task": "shop.resize", "schedule": 60.0},
    "hourly": {"task": "shop.resize", "schedule": 60.0, "options": {"headers": {"tenant": "acme"}}},
}


@app.task(name="shop.resize", rate_limit="10/m")
def resize(x): ...


@app.task(name="shop.pay", serializer="yaml", acks_late=True)
def pay(x):
    threading.Thread(target=resize.delay).start()
    resize.apply_async((1,), serializer="msgpack", delivery_mode=1)


def queues():
    return [Broadcast("everybody")]
"""

FINE = """
from celery import Celery

app = Celery("fine")
app.conf.task_acks_late = True


@app.task(name="fine.add")
def add(x, y):
    return x + y
"""


MOVED = FINE.replace("from celery import Celery", "from cgk_tasks import Celery").replace("fine", "moved")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shop")
    (path / "shop.py").write_text(SHOP)
    (path / "fine.py").write_text(FINE)
    (path / "moved.py").write_text(MOVED.replace("app.conf.task_acks_late = True", ""))
    (path / "empty.py").write_text("")
    return path


def check(folder, *arguments):
    env = {name: value for name, value in os.environ.items() if not name.startswith("CGK_")}
    env |= {"PYTHONPATH": str(ROOT), "CGK_BROKER_URL": "redis://localhost:6379/0", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "cgk_tasks.cli", "migrate-check", *arguments]
    return subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def found(folder):
    done = check(folder, "shop", "--json")
    assert done.returncode == 1, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("effect", "where", "words"),
    [
        ("refused", "settings", "task_serializer is 'pickle'"),
        ("refused", "settings", "redis://:**@elsewhere:6379/0, and CGK_BROKER_URL is redis://localhost:6379/0"),
        ("refused", "beat_schedule: nightly", "names no tenant"),
        ("refused", "shop.pay", "serializer is 'yaml'"),
        ("refused", "shop, line 21", "serializer is 'msgpack'"),
        ("refused", "shop, line 25", "Broadcast"),
        ("different", "settings: result_backend", "Results are in PostgreSQL"),
        ("different", "settings: task_send_sent_event", "No event says that a run was sent"),
        ("different", "shop.resize", "rate_limit"),
        ("different", "shop.resize", "the run is repeated"),
        ("different", "shop, line 20", "A thread begins without a tenant"),
        ("different", "shop, line 21", "delivery_mode has no effect"),
    ],
)
def test_what_differs_is_named_with_its_place(found, effect, where, words):
    assert [one for one in found if (one["effect"], one["where"]) == (effect, where) and words in one["what"]]


def test_what_is_the_same_is_not_named(found):
    assert len(found) == 13  # those above, and pickle for the task that takes it from the settings


def test_nothing_secret_is_shown(found):
    assert "open-sesame" not in json.dumps(found)


def test_every_finding_says_what_to_do(found):
    assert all(one["advice"].endswith((".", ")")) for one in found)


def test_an_application_in_which_nothing_is_refused_exits_with_zero(folder):
    done = check(folder, "fine:app")
    assert (done.returncode, done.stdout) == (0, "")
    assert "0 things differ" in done.stderr


def test_of_an_app_that_is_moved_already_the_tasks_of_events_are_not_named(folder):
    done = check(folder, "moved")
    assert (done.returncode, done.stdout.splitlines()[1:3]) == (
        0,
        ["Different: to be read", "moved.add"],
    )
    assert "1 thing differs" in done.stderr


@pytest.mark.parametrize(("module", "words"), [("nowhere", "cannot be imported"), ("empty", "has no Celery app")])
def test_a_module_without_an_app_is_an_error_that_says_so(folder, module, words):
    done = check(folder, module)
    assert done.returncode == 1
    assert words in done.stderr
    assert "hint:" in done.stderr
