"""The page on TypeScript, with real npm packages: what it shows compiles strictly, and runs against the gateway."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, blocks
from tests.gateway.gateway_support import secret_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = ROOT / "docs/how-to/call-it-from-typescript.md"
SCHEMA = "cgk-tasks gateway --openapi openapi.json"
TYPES = "npx openapi-typescript openapi.json --default-non-nullable=false --output schema.d.ts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, with the packages of npm."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node, with npm, is not installed.")
    made = tmp_path_factory.mktemp("typescript")
    for block in blocks(PAGE, "python", "json", "ts"):
        (made / block.saved_as).write_text(block.text)
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=made, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"The packages cannot be had here: {installed.stderr[-300:]}")
    return made


@pytest.fixture(scope="module")
def compiled(folder, database):
    """The folder, once the page's commands have made the types and compiled the program."""
    env = os.environ | {"CGK_JOB_MODULES": "shop", "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    said = [line for block in blocks(PAGE, "sh") for line in block.text.splitlines()]
    commands = [line for line in said if line.startswith(("cgk-tasks", "npx"))]
    assert commands == [SCHEMA, TYPES, "npx tsc"]
    called(folder, [sys.executable, "-m", "cgk_tasks.cli", *SCHEMA.split()[1:]], env)
    called(folder, TYPES.split(), env)
    called(folder, ["npx", "tsc"], env)
    return folder


def called(folder, command, env=None):
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(compiled, name, before, after):
    """What the compiler says of the page's program with a change."""
    text = (compiled / "orders.ts").read_text()
    assert text.count(before) == 1
    (compiled / name).write_text(text.replace(before, after))
    options = ["--target", "ES2022", "--module", "NodeNext", "--moduleResolution", "NodeNext", "--strict", "--noEmit"]
    done = subprocess.run(
        ["npx", "tsc", *options, name], cwd=compiled, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode != 0, "it compiles"
    return done.stdout


def test_the_program_sends_watches_waits_and_lists(compiled, gateway, start_worker):
    start_worker(["shop"], PYTHONPATH=f"{ROOT}{os.pathsep}{compiled}")
    env = os.environ | {"GATEWAY": gateway, "KEY": secret_of("acme", ["send:order.created", "read"])}
    shown = next(block.text for block in blocks(PAGE, "text"))
    assert called(compiled, ["node", "dist/orders.js"], env) == shown


def test_a_problem_says_what_to_do(compiled, gateway):
    env = os.environ | {"GATEWAY": gateway, "KEY": secret_of("acme", ["read"])}
    done = subprocess.run(
        ["node", "dist/orders.js"], cwd=compiled, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "FORBIDDEN: This key may not do that. It takes a key with the scope send:order.created" in done.stderr


def test_a_missing_tenant_does_not_compile_as_the_page_says(compiled):
    said = refused(compiled, "missing.ts", 'tenantId: "acme", ', "")
    assert [block.text for block in blocks(PAGE, "text")][1].strip() in said


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("/v1/events/order.created", "/v1/events/order.craeted", "event"),
        ("totalAmount: 100", 'totalAmount: "100"', "type"),
        ('orderId: "o-1"', 'orderID: "o-1"', "field"),
        ("limit: 5", 'limit: "many"', "parameter"),
    ],
)
def test_what_the_gateway_would_refuse_does_not_compile(compiled, before, after, name):
    assert "error TS" in refused(compiled, f"wrong_{name}.ts", before, after)
