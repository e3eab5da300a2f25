"""The `cgk-tasks` command: one file per command, thin over the functions of the library."""

from cgk_tasks.cli.program import main

__all__ = ["main"]
