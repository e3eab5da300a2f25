"""The page docs/reference/cli.md, written from the tree of commands: `python -m cgk_tasks.cli.reference`."""

from __future__ import annotations

import inspect
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
- Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. `dev` ends with 0 when Ctrl-C or SIGTERM stops it.
- An error is printed as `error:` and `hint:`. `cgk-tasks --verbose COMMAND`, or `CGK_TRACEBACK=1`, adds the traceback.
- `-h` and `--help` work everywhere.
"""


def page() -> str:
    """The page as Markdown."""
    from cgk_tasks.cli.program import program

    return "\n".join([_INTRO, *_sections(typer.main.get_command(program), "cgk-tasks")]).rstrip() + "\n"


def _sections(command: Any, name: str) -> Iterator[str]:
    """A command's section, then those of its subcommands. Read from the tree: Typer's own help changes its look."""
    # A hidden one is another spelling.
    children = {key: child for key, child in getattr(command, "commands", {}).items() if not child.hidden}
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    usage = " ".join(
        [name, *(argument.metavar for argument in arguments), *(["COMMAND"] if children else ["[OPTIONS]"])]
    )
    yield from [f"## `{name}`", "", inspect.cleandoc(command.help), "", "```text", usage, "```", ""]
    if arguments or options:
        yield from ["| argument or option | meaning |", "| --- | --- |"]
        yield from (f"| `{argument.metavar}` | {argument.help} |" for argument in arguments)
        yield from (f"| {_spelling(option)} | {option.help}{_default(option)} |" for option in options)
        yield ""
    if children:
        yield from ["Commands: " + ", ".join(f"`{name} {child}`" for child in children) + ".", ""]
    yield from ["```text", command.epilog.replace("\b\n", ""), "```", ""]
    for child in children.values():
        yield from _sections(child, f"{name} {child.name}")


def _spelling(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(f"`{spelling}{value}`" for spelling in [*option.opts, *option.secondary_opts])


def _default(option: Any) -> str:
    if option.secondary_opts:
        return f" Default: `{(option.opts if option.default else option.secondary_opts)[0]}`."
    return "" if option.default in {None, False} else f" Default: {option.default}."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    typer.echo(f"written: {PAGE}")
