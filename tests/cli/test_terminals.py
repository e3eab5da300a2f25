"""The real program in locales, pipes and folders that are not as it would like them."""

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cgk_tasks import send_job
from cgk_tasks.embedded import processes
from cgk_tasks.runs.models import new_run_id

ROOT = Path(__file__).parents[2]

ASCII = [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}]


@pytest.fixture
def program():
    """Run the program; its exit code, and what it wrote as bytes."""

    def run(*arguments, stdin=b"", cwd=None, before=None, **env):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
        return subprocess.run(
            [sys.executable, "-m", "cgk_tasks.cli", *arguments], input=stdin, capture_output=True,
            env=kept | {"PYTHONPATH": str(ROOT)} | env, cwd=cwd, preexec_fn=before, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def run_id(database):
    payload = {"tenantId": "acme", "orderId": "café ☕", "totalAmount": 1.0}
    return send_job("order.created", payload, delay=3600).id


@pytest.mark.parametrize("locale", ASCII, ids=str)
def test_text_that_the_terminal_cannot_show_does_not_end_a_command(program, run_id, locale):
    shown = program("runs", "show", run_id, **locale)
    assert (shown.returncode, b"Error" in shown.stderr) == (0, False)
    assert run_id.encode() in shown.stdout


@pytest.mark.parametrize("locale", ASCII, ids=str)
def test_json_stays_json_in_every_locale(program, run_id, locale):
    shown = program("runs", "show", run_id, "--json", **locale)
    assert json.loads(shown.stdout.decode("utf-8"))["payload"]["orderId"] == "café ☕"


@pytest.mark.parametrize("locale", ASCII, ids=str)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
def test_json_from_stdin_is_utf_8_in_every_locale(program, database, locale, mark):
    text = mark + json.dumps({"orderId": "café ☕", "totalAmount": 1.0}, ensure_ascii=False)
    sent = program("send", "order.created", "-", "--tenant", "acme", "--delay", "1h", stdin=text.encode(), **locale)
    assert sent.returncode == 0, sent.stderr
    shown = program("runs", "show", sent.stdout.decode().strip(), "--json")
    assert json.loads(shown.stdout)["payload"]["orderId"] == "café ☕"


def test_json_from_stdin_that_is_not_utf_8_is_wrong_usage(program, database):
    sent = program("send", "order.created", "-", stdin='{"orderId": "café"}'.encode("latin-1"))
    assert (sent.returncode, b"is not UTF-8" in sent.stderr) == (2, True)


@pytest.mark.parametrize("command", ["events list", "events list --json", "schedules list --json"])
def test_a_reader_that_has_seen_enough_ends_it_without_a_word(database, command):
    line = f"{sys.executable} -m cgk_tasks.cli {command} | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, cwd=ROOT, env=os.environ, check=False
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_times_name_their_zone(program, run_id):
    shown = program("runs", "show", run_id, TZ="America/New_York").stdout.decode()
    (line,) = [line for line in shown.splitlines() if line.startswith("created_at")]
    assert line.split()[-1] in {"EST", "EDT"}


@pytest.fixture
def read_only(tmp_path):
    """A folder that its owner may not write to."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o555)
    return folder


def _obey_permissions():
    """Root may write everywhere; a program that it starts after this may not (capability CAP_DAC_OVERRIDE)."""
    if os.getuid() == 0:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1


@pytest.mark.parametrize("command", [("setup", "jobs", "--non-interactive"), ("dev",)], ids=lambda words: words[0])
def test_in_a_folder_that_cannot_be_written_to_it_says_so(program, read_only, command):
    servers = {"CGK_DATABASE_URL": "", "CGK_BROKER_URL": ""}
    done = program(*command, cwd=read_only, before=_obey_permissions, **servers)
    assert done.returncode not in {0, 2}
    assert b"Permission denied" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"folder that you may write to" in done.stderr


@pytest.mark.parametrize("command", ["dashboard", "admin"])
def test_a_port_that_is_taken_is_named_and_another_one_asked_for(program, django_tables, tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = program(command, "--port", str(port), cwd=tmp_path)
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)
    assert f"127.0.0.1:{port}".encode() in done.stderr
    assert b"in use" in done.stderr
    assert b"--port" in done.stderr


def test_a_second_session_in_a_folder_is_refused_and_names_the_first(program, tmp_path):
    from cgk_tasks.cli.dev.only_session import only_session_of

    with only_session_of(tmp_path):
        second = program("dev", cwd=tmp_path)
    assert second.returncode == 1
    assert f"runs in this folder already (process {os.getpid()})".encode() in second.stderr
    assert not (tmp_path / ".cgk" / processes.STATE_FILE).exists()


def test_a_run_that_is_not_there_is_an_error_in_every_locale(program, database):
    done = program("runs", "show", new_run_id(), LC_ALL="C")
    assert (done.returncode, done.stderr.startswith(b"error: ")) == (1, True)
