"""Folders for private servers, and other processes that own some."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgk_tasks import embedded
from cgk_tasks.embedded import processes
from tests.embedded.embedded_support import Owner, wait_until


def gone(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


@pytest.fixture(scope="session")
def services() -> Iterator[embedded.Services]:
    """Running servers; a test that stops one starts it again."""
    with embedded.temporary() as services:
        yield services


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may pass through, as those of projects are; not so pytest's own tmp_path."""
    parent = Path(tempfile.mkdtemp(prefix="cgk-test-")).resolve()
    parent.chmod(0o755)
    yield parent / ".cgk"
    processes.stop(parent / ".cgk" / "postgres", parent / ".cgk" / "redis")
    wait_until(lambda: gone(parent))  # a watchdog may still be at work in it


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A PostgreSQL cluster as the first start of a folder makes it."""
    with tempfile.TemporaryDirectory(prefix="cgk-test-") as name:
        parent = Path(name).resolve()
        parent.chmod(0o755)
        with embedded.start(parent / ".cgk", redis=False):
            pass
        yield parent / ".cgk" / "postgres"


@pytest.fixture
def used_folder(folder: Path, cluster: Path) -> Path:
    """A folder that has been used before: saves the second that making a cluster takes."""
    folder.mkdir()
    subprocess.run(["cp", "-a", cluster, folder], check=True)
    return folder


@pytest.fixture
def start_owner() -> Iterator[Callable[..., Owner]]:
    owners: list[Owner] = []

    def start(folder: Path, *how: str, prefix: tuple[str, ...] = ()) -> Owner:
        owners.append(Owner(folder, *how, prefix=prefix))
        return owners[-1]

    yield start
    for owner in owners:
        with contextlib.suppress(ProcessLookupError):
            owner.child.kill()
        owner.child.communicate()
