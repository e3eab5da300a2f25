"""The SQL statements by name, read from the `.sql` files beside this module.

A file has blocks that begin with `-- name: NAME`. What several statements share stands once, in a block that begins
with `-- fragment: NAME` or, with one argument, `-- fragment: NAME(ARGUMENT)`. A statement takes it in with `{{NAME}}`
or `{{NAME(text)}}`: the text replaces `{ARGUMENT}` in the fragment, and may itself take in fragments. The fragments of
`shared.sql` are there for all files. This happens once, when the file is read, so that PostgreSQL sees plain texts
that never change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final, Self

_BLOCK: Final = re.compile(r"^-- (name|fragment): (\w+)(?:\((\w+)\))?\n", re.MULTILINE)
_USE: Final = re.compile(r"\{\{(\w+)(?:\(((?:(?!\{\{).)*?)\))?\}\}", re.DOTALL)
_COMMENT: Final = re.compile(r"^--.*\n?", re.MULTILINE)


class Statement(str):
    """The text of a statement, which knows where it comes from."""

    __slots__ = ("file", "label", "name")

    file: str
    name: str
    label: str
    """The name among all files, as metrics and traces show it."""

    def __new__(cls, file: str, name: str, text: str) -> Self:
        made = super().__new__(cls, text)
        made.file, made.name, made.label = file, name, f"{file}.{name}"
        return made


@cache
def statements(file: str) -> Mapping[str, Statement]:
    """The statements of one `.sql` file by name."""
    return parse(file, f"{_text('shared')}\n{_text(file)}")


def _text(file: str) -> str:
    return files("cgk_tasks.sql").joinpath(f"{file}.sql").read_text(encoding="utf-8")


def every_statement() -> list[Statement]:
    """The statements of all files."""
    names = sorted(entry.name for entry in files("cgk_tasks.sql").iterdir() if entry.name.endswith(".sql"))
    return [one for name in names for one in statements(name.removesuffix(".sql")).values()]


def parse(file: str, text: str) -> dict[str, Statement]:
    """The statements in a file's text, with its fragments taken in. Raises LookupError for a fragment that is not
    there.
    """
    parts = _BLOCK.split(text)
    bodies = [_COMMENT.sub("", body).strip().rstrip(";") for body in parts[4::4]]
    blocks = list(zip(parts[1::4], parts[2::4], parts[3::4], bodies, strict=True))
    fragments = {
        name: (argument, body)
        for kind, name, argument, body in blocks
        if kind == "fragment"
    }  # fmt: skip
    return {
        name: Statement(file, name, _with_fragments(body, fragments))
        for kind, name, _argument, body in blocks
        if kind == "name"
    }


def _with_fragments(text: str, fragments: Mapping[str, tuple[str | None, str]]) -> str:
    def fragment(use: re.Match[str]) -> str:
        argument, body = fragments[use[1]]
        if (argument is None) != (use[2] is None):
            raise LookupError(f"The fragment {use[1]} is taken in with {'an' if argument is None else 'no'} argument.")
        return body if argument is None else body.replace(f"{{{argument}}}", use[2])

    while _USE.search(text):  # the innermost uses first
        text = _USE.sub(fragment, text)
    return text
