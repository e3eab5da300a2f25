"""The demo: a year and a half of a record shop's real orders, run for three tenants by real workers.

`run()` is what `cgk-tasks demo` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run"]


def run(console: Console | None = None, *, keep: bool = False, workers: int = 1, concurrency: int = 2) -> int:
    """Run the demo and return its exit code: 0 if every tenant's revenue is right to the cent, else 1.

    console: where it is shown; the terminal by default, plain lines where there is none. keep: use the private servers
    of `.cgk/` in the working folder, whose data stays, and not a folder that is removed at the end; the demo's own
    tables begin empty either way. workers: worker processes; concurrency: children of each.

    Stops what it started at its end, on Ctrl-C (130), on SIGTERM (143) and on failure. Raises EmbeddedError when the
    private servers do not start.
    """
    # The worker imports this package for its jobs alone: what shows the demo is loaded here.
    from cgk_tasks.demo.demonstration import demonstrate

    return demonstrate(console, keep=keep, workers=workers, concurrency=concurrency)
