"""One `cgk-tasks dev` a folder: a second one would run every schedule's beat and a worker on other code beside the
first.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgk_tasks.errors import ConfigurationError


@contextmanager
def only_session_of(folder: Path) -> Iterator[None]:
    """Hold the folder for the length of the block. Raises ConfigurationError when another session has it.

    The lock is the kernel's: it ends with the process, however that ends.
    """
    path = folder / ".cgk" / "dev.lock"
    path.parent.mkdir(exist_ok=True)
    ignore = path.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="ascii")
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigurationError(
                f"cgk-tasks dev runs in this folder already (process {file.read().strip() or 'unknown'}). "
                "Its services and its worker are there for every terminal in this folder: use them, or stop it first."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
