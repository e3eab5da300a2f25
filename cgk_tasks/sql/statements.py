"""The SQL statements by name, read from the `.sql` files beside this module.

A file has blocks that begin with `-- name: NAME`. What several statements share stands once, in a block that begins
with `-- fragment: NAME` or, with one argument, `-- fragment: NAME(ARGUMENT)`. A statement takes it in with `{{NAME}}`
or `{{NAME(text)}}`: the text replaces `{ARGUMENT}` in the fragment, and may itself take in fragments. The fragments of
`shared.sql` are there for all files. This happens once, when the file is read, so that PostgreSQL sees plain texts
that never change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self, TypeAlias

_BLOCK: Final = re.compile(r"^-- (name|fragment): (\w+)(?:\((\w+)\))?\n", re.MULTILINE)
_USE: Final = re.compile(r"\{\{(\w+)(?:\(((?:(?!\{\{).)*?)\))?\}\}", re.DOTALL)
_COMMENT: Final = re.compile(r"^--.*\n?", re.MULTILINE)
_FOLDER: Final = Path(__file__).parent

Fragments: TypeAlias = Mapping[str, tuple[str | None, str]]
"""By name: the argument, if there is one, and the text."""
_NONE: Final[Fragments] = MappingProxyType({})


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
    return parse(file, _text(file), _shared())


@cache
def _shared() -> Fragments:
    return _fragments(_blocks(_text("shared")))


def _text(file: str) -> str:
    return (_FOLDER / f"{file}.sql").read_text(encoding="utf-8")


def every_statement() -> list[Statement]:
    """The statements of all files."""
    return [one for path in sorted(_FOLDER.glob("*.sql")) for one in statements(path.stem).values()]


def parse(file: str, text: str, shared: Fragments = _NONE) -> dict[str, Statement]:
    """The statements in a file's text, with its fragments and the `shared` ones taken in. Raises LookupError for a
    fragment that is not there.
    """
    blocks = _blocks(text)
    fragments = {**shared, **_fragments(blocks)}
    return {
        name: Statement(file, name, _with_fragments(body, fragments))
        for kind, name, _argument, body in blocks
        if kind == "name"
    }


def _blocks(text: str) -> list[tuple[str, str, str | None, str]]:
    """Kind, name, argument and text of each."""
    parts = _BLOCK.split(text)
    bodies = [_COMMENT.sub("", body).strip().rstrip(";") for body in parts[4::4]]
    return list(zip(parts[1::4], parts[2::4], parts[3::4], bodies, strict=True))


def _fragments(blocks: Iterable[tuple[str, str, str | None, str]]) -> Fragments:
    return {name: (argument, body) for kind, name, argument, body in blocks if kind == "fragment"}


def _with_fragments(text: str, fragments: Fragments) -> str:
    def fragment(use: re.Match[str]) -> str:
        argument, body = fragments[use[1]]
        if (argument is None) != (use[2] is None):
            raise LookupError(f"The fragment {use[1]} is taken in with {'an' if argument is None else 'no'} argument.")
        return body if argument is None else body.replace(f"{{{argument}}}", use[2])

    uses = 1 if "{{" in text else 0  # most have none, and to look for one so takes next to nothing
    while uses:  # the innermost uses first
        text, uses = _USE.subn(fragment, text)
    return text
