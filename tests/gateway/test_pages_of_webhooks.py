"""The commands of the pages on webhooks that are received and on ticks over HTTP do what the pages say."""

import json
import os
import subprocess
import sys
from importlib import import_module

import pytest

from cgk_tasks.inbound.sources import remove_source
from cgk_tasks.jobs.registry import remove_job
from tests.docs.pages import ROOT, blocks
from tests.support.workers import ROOT as PROJECT

RECEIVING = ROOT / "docs/how-to/receive-webhooks.md"
TICKING = ROOT / "docs/how-to/tick-schedules-over-http.md"
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def shop(django_tables, tmp_path_factory):
    """The folder of the page, with its module, whose secrets are set."""
    from cgk_tasks.config import use_settings

    folder = tmp_path_factory.mktemp("shop")
    (source,) = [block for block in blocks(RECEIVING, "python") if block.saved_as]
    (folder / source.saved_as).write_text(source.text)
    program = folder / "cgk-tasks"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cgk_tasks.cli "$@"\n')
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("SHOPIFY_SECRET", "hush")
        patch.setenv("CRON_SECRET", SECRET)
        use_settings(None)
        import_module("hooks")
        yield folder
        remove_source("shopify-orders")
        remove_job("greet-customer")
        sys.modules.pop("hooks", None)
    use_settings(None)


@pytest.fixture(scope="module")
def served_shop(shop, gateway):
    return gateway


def typed(folder, url, commands):
    """What the commands write. The gateway runs already, so that the one that starts it is left out."""
    lines = [line for line in commands.splitlines() if line != "cgk-tasks gateway" and "openssl rand" not in line]
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", "\n".join(lines).replace("http://127.0.0.1:8080", url)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": f"{PROJECT}:{folder}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_on_receiving_do_what_the_page_says(served_shop, shop):
    start, deliver = [block.text for block in blocks(RECEIVING, "sh")]
    assert "shopify-orders" in typed(shop, served_shop, start)
    answers = [json.loads(line) for line in typed(shop, served_shop, deliver).splitlines() if line]
    (shown,) = [block.text for block in blocks(RECEIVING, "json")]
    expected = [json.loads(line) for line in shown.splitlines()]
    assert [answer["outcome"] for answer in answers] == [one["outcome"] for one in expected]
    assert [[run["outcome"] for run in answer["runs"]] for answer in answers] == [
        [run["outcome"] for run in one["runs"]] for one in expected
    ]
    assert answers[0]["runs"][0]["id"] == answers[1]["runs"][0]["id"]


def test_the_command_on_ticks_does_what_the_page_says(served_shop, shop):
    _start, call, _qstash = [block.text for block in blocks(TICKING, "sh")]
    assert json.loads(typed(shop, served_shop, call)) == {"ticks": []}


def test_the_pages_name_each_scheme_and_status():
    from cgk_tasks.inbound.schemes import SCHEMES

    page = RECEIVING.read_text()
    assert [name for name in SCHEMES if f"| `{name}` |" not in page] == []
