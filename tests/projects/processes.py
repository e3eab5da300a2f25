"""The processes of a project, started as its own team starts them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent


def environment(folder, **variables):
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), **variables}


def run(folder, *arguments, **variables):
    """Run a command of the project to its end; fails with what it wrote."""
    done = subprocess.run(
        [sys.executable, *arguments], env=environment(folder, **variables), cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(folder, *arguments, **variables):
    """A process of the project; gives the path of its log, which is shown where a test fails."""
    log = Path(tempfile.mkstemp(prefix="cgk-project-", suffix=".log")[1])
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment(folder, **variables), cwd=folder, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        print(f"--- {' '.join(arguments)}\n{log.read_text(errors='replace')[-6000:]}")


@contextmanager
def worker(folder, app, **variables):
    """A worker that takes messages."""
    arguments = ("-m", "celery", "-A", app, "worker", "-c", "2", "-l", "info", "--without-gossip", "--without-mingle")
    with running(folder, *arguments, **variables) as log:
        wait_until(lambda: "ready." in log.read_text(errors="replace"), 60, "the worker is ready")
        yield log


@contextmanager
def server(folder, *arguments, **variables):
    """A web server, which gets the port as its last argument; gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with running(folder, *arguments, str(port), **variables):
        wait_until(lambda: _answers(url), 60, "the server answers")
        yield url


def _answers(url):
    try:
        return requests.get(url, timeout=5).status_code > 0
    except requests.ConnectionError:
        return False
