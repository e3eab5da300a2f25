"""Noticing that the application's code has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from cgk_tasks.cli.dev.imports import imported_files
from cgk_tasks.cli.dev.loaded import loaded_files
from cgk_tasks.cli.output import say
from cgk_tasks.config import get_settings

LOADED_FILES = Path(".cgk") / "dev-files"


def watched_files(folder: Path) -> frozenset[Path]:
    """What a worker of this folder has to be started anew for: what the jobs import, and `celeryconfig.py`."""
    modules = {*get_settings().job_modules, "celeryconfig"}
    return imported_files(folder, modules) | loaded_files(folder, folder / LOADED_FILES)


async def changes(folder: Path, watched: Callable[[], Collection[Path]]) -> AsyncIterator[str]:
    """Names of what changed, whenever `watched` files below `folder` have: of the first one, and how many more.

    Ends at once, with a word on it, where watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, awatch
    except ModuleNotFoundError:
        say("warning: no reload on change: install watchfiles, it comes with pip install 'cgk-tasks[dev]'")
        return
    # Before a change as well: a file that is no longer imported after it still makes a difference.
    before = watched()
    # The filter leaves out hidden folders of tools, virtual environments and __pycache__ by itself.
    async for changed in awatch(folder, watch_filter=PythonFilter(ignore_paths=[folder / ".cgk"]), recursive=True):
        now = watched()
        matter = {Path(path) for _kind, path in changed} & {*before, *now}
        before = now
        if matter:
            paths = sorted(path.relative_to(folder).as_posix() for path in matter)
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield f"{paths[0]}{more}"
