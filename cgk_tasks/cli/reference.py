"""The page docs/reference/cli.md, written from the tree of commands: `python -m cgk_tasks.cli.reference`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"

_INTRO = """<!-- Written by `python -m cgk_tasks.cli.reference` from the commands. Do not edit; change the commands. -->

# The command `cgk-tasks`

Installed with the package; `python -m cgk_tasks.cli` is the same. It reads the settings of the working folder: the
environment, `.env`, `.env.local`, and the private services that `cgk-tasks dev` has started there.

- Data goes to stdout, everything else to stderr. `--json` prints data for machines.
- Exit codes: 0 done, 1 failed, 2 wrong usage.
- An error is printed as `error:` and `hint:`. `cgk-tasks --verbose COMMAND`, or `CGK_TRACEBACK=1`, adds the traceback.
- `-h` and `--help` work everywhere.
"""


def page() -> str:
    """The page as Markdown."""
    from cgk_tasks.cli.program import program

    return "\n".join([_INTRO, *_sections(typer.main.get_command(program), "cgk-tasks")]).rstrip() + "\n"


def _sections(command: Any, name: str, parent: Any = None) -> Iterator[str]:
    context = command.context_class(
        command, info_name=name.rpartition(" ")[2], parent=parent, max_content_width=100, terminal_width=100,
        **command.context_settings,
    )  # fmt: skip
    yield from [f"## `{name}`", "", "```text", command.get_help(context).rstrip(), "```", ""]
    for child in getattr(command, "commands", {}).values():
        yield from _sections(child, f"{name} {child.name}", context)


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    PAGE.write_text(page(), encoding="utf-8")
    typer.echo(f"written: {PAGE}")
