"""The commands of the page "Send jobs over HTTP" do what the page says, typed into a shell."""

import json
import os
import re
import subprocess
import sys

import pytest

from cgk_tasks import get_run
from cgk_tasks.gateway.asgi import ENDPOINTS, SIGNED
from cgk_tasks.gateway.problems import STATUSES
from tests.docs.pages import ROOT, blocks
from tests.support.workers import ROOT as PROJECT

PAGE = ROOT / "docs/how-to/send-jobs-over-http.md"
REFERENCE = (ROOT / "docs/reference/http-api.md").read_text()


@pytest.fixture(scope="module")
def typed(gateway, tmp_path_factory):
    """What the commands wrote, a text for each block; all in one shell, with the gateway of the tests."""
    folder = tmp_path_factory.mktemp("page")
    program = folder / "cgk-tasks"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cgk_tasks.cli "$@"\n')
    program.chmod(0o755)
    commands = [block.text for block in blocks(PAGE, "sh") if "pip install" not in block.text]
    script = "\n".join(f"{command}\necho; echo --- next" for command in commands)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script.replace("http://127.0.0.1:8080", gateway)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [text.strip() for text in done.stdout.split("--- next")]


def test_the_commands_of_the_page_do_what_it_says(typed):
    _key, one, result, unknown, many, lines, operated, watched = typed[:8]
    assert json.loads(one)["outcome"] == "accepted"
    assert json.loads(result)["state"] == "pending"
    assert json.loads(unknown)["nearest"] == "order.created"
    assert [get_run(run["id"]).state for run in json.loads(many)["runs"]] == ["pending", "scheduled"]
    assert [json.loads(line)["sent"] for line in lines.splitlines()] == [1000, 1000, 500]
    listed, cancelled, replayed = _several(operated)
    assert json.loads(watched.partition("data: ")[2])["state"] == "cancelled"
    assert (len(listed["runs"]), cancelled["state"], replayed["outcome"]) == (2, "cancelled", "accepted")


def _several(text):
    """JSON texts one after another."""
    found, reader = [], json.JSONDecoder()
    while text:
        value, end = reader.raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    return found


def test_the_reference_has_every_endpoint():
    named = set(re.findall(r"^\| `(\w+ /v1\S+)`", REFERENCE, re.MULTILINE))
    assert {f"{method} {path}" for method, path, *_ in (*ENDPOINTS, *SIGNED)} <= named


def test_the_reference_has_every_status_of_an_error():
    said = {
        int(status) for row in re.findall(r"^\| ([\d, ]+) \|", REFERENCE, re.MULTILINE) for status in row.split(",")
    }
    assert set(STATUSES.values()) - {410, 500} <= said


def test_the_reference_has_every_code_that_the_gateway_gives():
    code = "\n".join(
        file.read_text()
        for file in [*(ROOT / "cgk_tasks/gateway").glob("*.py"), *(ROOT / "cgk_tasks/inbound").glob("*.py")]
    )
    given = set(re.findall(r'"([A-Z]{3,}(?:_[A-Z]+)+|UNAUTHORIZED|FORBIDDEN)"', code))
    assert {name for name in given if f"`{name}`" not in REFERENCE and not name.startswith("CGK_")} <= {
        "SIGNAL_URL_EXPIRED", "SHOPIFY_SECRET"
    }  # fmt: skip
