"""The command in this process: its exit code, what it wrote, and nothing left behind."""

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from cgk_tasks.cli import failures, main


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cgk(capsys, monkeypatch):
    """Run a command line: `cgk("runs", "list", "--json").json`."""

    def run(*arguments: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        written = capsys.readouterr()
        return Outcome(ended.value.code or 0, written.out, written.err)

    yield run
    failures.show_tracebacks(False)
