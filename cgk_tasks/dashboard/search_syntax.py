"""The words of a search: `tenant:acme error:"HTTP 502" o-4711`, as text and as terms."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import InvalidOptionError

_NAME: Final = re.compile(r"([A-Za-z][A-Za-z-]*):")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_WORD: Final = re.compile(r"\S+")
_SPACE: Final = re.compile(r"\s*")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE: Final = re.compile(r'(["\\])')


class Term(NamedTuple):
    """One term. name: empty for a word that has none. position: of its first character in the text, from 0."""

    name: str
    value: str
    position: int = 0


class SearchError(InvalidOptionError):
    """A search that cannot be read. position: of the character where that is so, from 0."""

    code = "SEARCH_INVALID"

    def __init__(self, position: int, problem: str, *, hint: str | None = None) -> None:
        super().__init__("q", f"at character {position + 1}, {problem}", hint=hint)
        self.position = position


def parse(text: str, names: Collection[str]) -> list[Term]:
    r"""The terms of a text, of which each is `name:value`, or a value alone. Raises SearchError.

    A value with spaces, or one without a name that has a colon after its first word, stands in quotes, in which `\"` is
    a quote and `\\` a backslash. names: those that there are.
    """
    terms: list[Term] = []
    at = _end(_SPACE, text, 0)
    while at < len(text):
        begin, name = at, ""
        if named := _NAME.match(text, at):
            name, at = named[1].lower(), named.end()
            if name not in names:
                raise SearchError(
                    begin, f'there is no term "{name}:".{did_you_mean(name, names)}', hint=_allowed(names)
                )
        value, at = _value(text, at)
        if name and not value:
            raise SearchError(begin, f"{name}: has no value", hint=f"Write it right behind the colon: {name}:VALUE")
        terms.append(Term(name, value, begin))
        at = _end(_SPACE, text, at)
    return terms


def _allowed(names: Iterable[str]) -> str:
    return f"There are {', '.join(f'{name}:' for name in names)}. Put a text with a colon in quotes."


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins there, and where it ends."""
    if not text.startswith('"', at):
        word = _WORD.match(text, at)
        return (word[0], word.end()) if word else ("", at)
    quoted = _QUOTED.match(text, at)
    if quoted is None:
        raise SearchError(at, "a quote is not closed", hint='Close it with ", and write a quote inside as \\"')
    if quoted.end() < len(text) and not text[quoted.end()].isspace():
        raise SearchError(quoted.end(), "a space is missing after the quote")
    return _ESCAPED.sub(r"\1", quoted[1]), quoted.end()


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def write(terms: Iterable[Term]) -> str:
    """The text that `parse` makes these terms of."""
    return " ".join(_written(term) for term in terms)


def _written(term: Term) -> str:
    value = term.value
    is_plain = _WORD.fullmatch(value) and not value.startswith('"') and (term.name or not _NAME.match(value))
    written = value if is_plain else '"' + _TO_ESCAPE.sub(r"\\\1", value) + '"'
    return f"{term.name}:{written}" if term.name else written
