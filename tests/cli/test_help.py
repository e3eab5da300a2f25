"""What every command has: help that ends with examples, a page in the reference, a quick start."""

import subprocess
import sys

import pytest
import typer

from cgk_tasks import __version__
from cgk_tasks.cli import reference
from cgk_tasks.cli.program import program


def commands(command=None, path=()):
    """The words of every command and group."""
    command = command or typer.main.get_command(program)
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize("words", list(commands()), ids=lambda words: " ".join(words) or "cgk-tasks")
def test_help_ends_with_examples_of_that_command(cgk, words):
    outcome = cgk(*words, "--help")
    shown = outcome.out.partition("Examples:")[2]
    assert outcome.code == 0
    assert f"cgk-tasks {' '.join(words)}".strip() in shown


def test_the_reference_page_is_in_step_with_the_commands():
    written = reference.PAGE.read_text(encoding="utf-8")
    assert written == reference.page(), "write it anew: python -m cgk_tasks.cli.reference"


def test_the_module_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "cgk_tasks.cli", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


def test_help_imports_neither_celery_nor_a_database_driver():
    code = (
        "import sys, cgk_tasks.cli.program as p\n"
        "try: p.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', [m for m in ('celery', 'kombu', 'sqlalchemy', 'psycopg', 'redis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("HEAVY []\n")


@pytest.mark.parametrize("arguments", [("nonsense",), ("runs", "nonsense"), ("runs", "list", "--nonsense")])
def test_wrong_usage_exits_with_2_and_writes_nothing_to_stdout(cgk, arguments):
    outcome = cgk(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
