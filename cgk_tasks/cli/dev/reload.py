"""Noticing that the application's code has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from cgk_tasks.cli.output import say


async def changes(folder: Path) -> AsyncIterator[str]:
    """Names of what changed, whenever `.py` files below `folder` have: of the first one, and how many more.

    Ends at once, with a word on it, where watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, awatch
    except ModuleNotFoundError:
        say("warning: no reload on change: install watchfiles, it comes with pip install 'cgk-tasks[dev]'")
        return
    # The filter leaves out hidden folders of tools, virtual environments and __pycache__ by itself.
    async for changed in awatch(folder, watch_filter=PythonFilter(ignore_paths=[folder / ".cgk"]), recursive=True):
        paths = sorted({Path(path).relative_to(folder).as_posix() for _kind, path in changed})
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield f"{paths[0]}{more}"
