"""The tutorials work: their files are saved, their commands typed, and the output is what the pages show.

The installation (a block of `sh`) is left out: `make test` has done it. On the page `…` stands for any text, and `ID`
for the run's id that was printed last.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks
from tests.support.waiting import Patience, wait_exit, wait_until

FIRST = ROOT / "docs/tutorials/first-job.md"
SCHEDULES = ROOT / "docs/tutorials/schedules.md"
WORKFLOWS = ROOT / "docs/tutorials/workflows.md"
FOREGROUND = "cgk-tasks dev"

# The page says that one has to wait.
PATIENT = {
    "cgk-tasks runs list --event cron.minuteReport": 100.0,
    "cgk-tasks why ID": 30.0,
    "cgk-tasks runs list --event creator.applied": 30.0,
}

_RUN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Terminals:
    """The first terminal, where `cgk-tasks dev` stays, and the second, a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        scripts = str(Path(sys.executable).parent)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CGK_", "JOB"))}
        self._env = {**kept, "PATH": f"{scripts}{os.pathsep}{kept['PATH']}", "NO_COLOR": "1", "COLUMNS": "200"}
        self._last_id = ""
        self._log = folder.with_suffix(".log")
        self._dev: subprocess.Popen[bytes] | None = None
        self._shell = subprocess.Popen(
            ["bash"], cwd=folder, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def start_foreground(self) -> None:
        with self._log.open("wb") as log:
            self._dev = subprocess.Popen(FOREGROUND.split(), cwd=self.folder, env=self._env, stdout=log, stderr=log)
        wait_until(self._is_ready, 60, "the worker of cgk-tasks dev is ready")

    @property
    def shown_in_foreground(self) -> str:
        return self._log.read_text(errors="replace")

    def _is_ready(self) -> bool:
        assert self._dev is not None
        shown = self.shown_in_foreground
        assert self._dev.poll() is None, shown
        return " ready." in shown

    def run(self, command: str) -> str:
        """The output of one command in the shell."""
        shell = self._shell
        assert shell.stdin is not None
        assert shell.stdout is not None
        command = re.sub(r"\bID\b", self._last_id, command)
        shell.stdin.write(f"{command}\necho; echo --done--\n")
        shell.stdin.flush()
        lines = []
        while (line := shell.stdout.readline()) != "--done--\n":
            assert line, "the shell ended"
            lines.append(line)
        output = "".join(lines).strip("\n")
        self._last_id = (_RUN_ID.findall(output) or [self._last_id])[-1]
        return output

    def interrupt_foreground(self) -> int:
        """Ctrl-C."""
        assert self._dev is not None
        self._dev.send_signal(signal.SIGINT)
        return wait_exit(self._dev, 45)

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        if self._dev is not None and self._dev.poll() is None:
            self._dev.terminate()
            self._dev.wait(45)


@pytest.fixture
def terminals(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    both = Terminals(folder)
    yield both
    both.close()


@pytest.mark.timeout(900)
def test_the_first_tutorial_works_as_written(terminals):
    assert follow(terminals, FIRST) > 10
    assert terminals.interrupt_foreground() == 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page", [pytest.param(SCHEDULES, id="schedules"), pytest.param(WORKFLOWS, id="workflows", marks=pytest.mark.slow)]
)
def test_a_tutorial_works_as_written_where_the_first_one_ended(terminals, page):
    begun = list(blocks(FIRST, "python", "console"))
    (terminals.folder / "shop.py").write_text(next(block.text for block in begun if block.saved_as == "shop.py"))
    (terminals.folder / ".env.local").write_text("CGK_JOB_MODULES=shop\nCGK_TENANT_SETUP=shop:create_tables\n")
    terminals.start_foreground()
    for tenant in ("acme", "globex"):
        terminals.run(f"cgk-tasks tenants add {tenant}")
    assert terminals.interrupt_foreground() == 0

    assert follow(terminals, page) > 5
    assert terminals.interrupt_foreground() == 0
    assert "Traceback" not in terminals.shown_in_foreground


def follow(terminals: Terminals, page: Path) -> int:
    """Do what the page says. Returns the number of commands."""
    done = 0
    for block in blocks(page, "python", "console"):
        if block.saved_as:
            (terminals.folder / block.saved_as).write_text(block.text)
            continue
        for command, shown in steps(block.text):
            done += 1
            if command == FOREGROUND:
                terminals.start_foreground()
            else:
                assert_shows(terminals, block, command, shown)
    return done


def assert_shows(terminals: Terminals, block: Block, command: str, shown: str) -> None:
    patience = Patience(PATIENT.get(command, 0.0))
    while not matches(output := terminals.run(command), shown):
        assert not patience.is_over(), f"{block}: {command}\nprinted\n{output}\nbut the page shows\n{shown}"
        threading.Event().wait(5.0)  # each look starts a process


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown below it."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], (shown.strip("\n") for shown in parts[2::2]), strict=True))


def matches(output: str, shown: str) -> bool:
    """Whether the output is what is shown. `…` is any text; how wide the columns of a table are does not matter."""
    pattern = "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", _narrow(shown)))
    return re.fullmatch(pattern, _narrow(output), re.DOTALL) is not None


def _narrow(text: str) -> str:
    return "\n".join(re.sub(r" +", " ", line).strip() for line in text.splitlines())
