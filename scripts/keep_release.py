"""Keep the code of a release for the tests of rolling upgrades: tests/upgrade/releases/cgk_tasks-VERSION-COMMIT.tar.xz.

python scripts/keep_release.py v0.1.0      any tag or commit of this repository

It is the wheel's content without what processes do not need at run time, so that a checkout without history can run it.
"""

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELEASES = ROOT / "tests" / "upgrade" / "releases"
LEFT_OUT = (".pyi", ".csv", "/static/", ".dist-info/")


def main(reference: str) -> None:
    commit = _output("git", "rev-parse", "--short=7", f"{reference}^{{commit}}")
    with tempfile.TemporaryDirectory() as name:
        wheel = _build_wheel(commit, Path(name))
        version = wheel.name.split("-")[1]
        kept = RELEASES / f"cgk_tasks-{version}-{commit}.tar.xz"
        _pack(wheel, kept)
    print(f"{kept.relative_to(ROOT)}: {kept.stat().st_size:,} bytes. Name it in RELEASES of tests/upgrade/release.py.")


def _build_wheel(commit: str, folder: Path) -> Path:
    source, wheels = folder / "source", folder / "wheels"
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source, filter="data")
    if shutil.which("uv"):
        command = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(source)]
    else:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(wheels), str(source)]
    subprocess.run(command, check=True)
    return next(wheels.glob("*.whl"))


def _pack(wheel: Path, kept: Path) -> None:
    """The same bytes each time: sorted, without times and owners."""
    with zipfile.ZipFile(wheel) as files, tarfile.open(kept, "w:xz", preset=9) as packed:
        for name in sorted(files.namelist()):
            if not any(part in name for part in LEFT_OUT):
                text = files.read(name)
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                packed.addfile(entry, io.BytesIO(text))


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
