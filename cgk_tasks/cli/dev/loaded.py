"""Imported by the session's worker (`celery worker -I`): it writes down which files of the working folder it has
loaded.

With it the session knows modules that an application imports by a name made at run time, which reading its code does
not show.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

from celery import signals

VARIABLE: Final = "CGK_DEV_LOADED_FILES"
"""The file to write to; one path a line."""


@signals.worker_ready.connect
def write_loaded_files(**_arguments: Any) -> None:
    """Once the job modules are imported."""
    path = os.environ.get(VARIABLE)
    if path:
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        Path(path).write_text(
            "\n".join(sorted(file for file in files if file)), encoding="utf-8", errors="surrogateescape"
        )


def loaded_files(folder: Path, path: Path) -> frozenset[Path]:
    """What the worker wrote to `path`, as far as it lies below `folder`. Nothing before its first start."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(file for file in map(Path, lines) if file.is_relative_to(folder))
