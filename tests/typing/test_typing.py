"""What a strict type checker accepts and what it rejects, in the files beside this one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = ("accepts.py", "rejects.py")


@pytest.fixture(scope="module")
def printed() -> str:
    """What mypy says of the files."""
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--hide-error-context"]
    ran = subprocess.run(
        [*command, "--no-error-summary", *(str((HERE / name).relative_to(ROOT)) for name in FILES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in {0, 1}, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def findings(printed: str) -> dict[str, set[tuple[int, str]]]:
    """mypy's errors in each file, as line and error code."""
    found: dict[str, set[tuple[int, str]]] = {name: set() for name in FILES}
    for path, line, code in re.findall(r"^(\S+?):(\d+): error: .*\[([a-z-]+)\]$", printed, re.MULTILINE):
        found[Path(path).name].add((int(line), code))
    return found


def test_right_code_type_checks(findings: dict[str, set[tuple[int, str]]]) -> None:
    assert findings["accepts.py"] == set()


def test_exactly_the_wrong_lines_are_rejected(findings: dict[str, set[tuple[int, str]]]) -> None:
    lines = (HERE / "rejects.py").read_text(encoding="utf-8").splitlines()
    expected = {
        (number, mark.group(1))
        for number, line in enumerate(lines, start=1)
        if (mark := re.search(r"# E: ([a-z-]+)$", line))
    }
    assert findings["rejects.py"] == expected


def test_a_wrong_dictionary_is_one_line_that_names_the_payload_and_the_model(printed: str) -> None:
    lines = (HERE / "rejects.py").read_text(encoding="utf-8").splitlines()
    wrong = [
        number for number, line in enumerate(lines, 1) if line.startswith("send_job(") and line.endswith("E: arg-type")
    ]
    assert len(wrong) > 5
    for number in wrong:
        (said,) = re.findall(rf"rejects\.py:{number}: (.*)", printed)
        assert 'expected "PayloadThatFits[TheEvent, OrItsModel]"' in said
