"""The generated files in the repository are what the generator writes now."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "generate_types.py"


def test_every_generated_file_is_in_step_with_the_models() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_names_a_file_that_is_out_of_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    generator = importlib.import_module("generate_types")
    for path, text in generator.generated_files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert generator.out_of_step(tmp_path) == []

    (tmp_path / "docs/reference/events.md").write_text("old", encoding="utf-8")
    assert generator.out_of_step(tmp_path) == [Path("docs/reference/events.md")]
