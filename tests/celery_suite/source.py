"""Celery's own tests, from the source distribution of the installed version. This repository keeps nothing of it."""

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

CACHE = Path(sys.prefix) / ".celery-suite"


def source_distribution() -> Path:
    """The archive, taken from the package index once a virtual environment and version."""
    version = importlib.metadata.version("celery")
    archive = CACHE / f"celery-{version}.tar.gz"
    if not archive.exists():
        CACHE.mkdir(exist_ok=True)
        # uv has no command that downloads an archive, and its environments have no pip.
        pip = ["uv", "tool", "run", "pip"] if shutil.which("uv") else [sys.executable, "-m", "pip"]
        subprocess.run(
            [*pip, "download", "-q", "--no-deps", "--no-binary", "celery", f"celery=={version}", "-d", str(CACHE)],
            check=True,
        )
    return archive


def extract_tests(folder: Path) -> None:
    """Put Celery's package of tests, `t`, and the settings that pytest reads for it into a folder."""
    with tarfile.open(source_distribution()) as archive:
        for member in archive:
            _top, _, member.name = member.name.partition("/")
            if member.name == "pyproject.toml" or member.name.startswith("t/"):
                archive.extract(member, folder, filter="data")
