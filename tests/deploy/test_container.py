"""deploy/container: the image, as hadolint reads it."""

import re
import shutil
import subprocess

import pytest

from tests.deploy.files import DEPLOY, GROUP, bin_folder, is_command
from tests.docs.pages import ROOT, name_of

FILES = sorted((DEPLOY / "container").iterdir())
BASE = (DEPLOY / "container/Containerfile").read_text()


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_hadolint_finds_nothing(file):
    program = shutil.which("hadolint") or shutil.which("hadolint", path=str(bin_folder()))
    if program is None:
        pytest.skip(GROUP)
    done = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_built_with_stays_out_of_the_image():
    stages = re.split(r"^FROM .*$", BASE, flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    assert "pip install" in stages[0]
    assert not re.search(r"^RUN .*(pip|uv|apt)", stages[1], re.MULTILINE)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_the_last_user_is_a_number_and_not_root(file):
    last = re.findall(r"^USER (\S+)$", file.read_text(), re.MULTILINE)[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last)


def test_the_worker_gets_signals_itself():
    command = re.search(r"^CMD \[(.*)\]$", BASE, re.MULTILINE)
    assert command is not None
    assert is_command(re.findall(r'"([^"]+)"', command[1]))


def test_what_is_copied_into_it_is_there_and_not_ignored():
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.*)$", BASE, re.MULTILINE) for source in line.split()[:-1]
    }
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source.removeprefix("./") for source in copied} == let_in
    assert [source for source in let_in if not (ROOT / source).exists()] == []
