"""The pages of the documentation, and what is in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.joinpath("docs").rglob("*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED_AS = re.compile(r"\bas `([\w./-]+\.\w+)`:\s*\Z")


@dataclass(frozen=True)
class Block:
    """A code block. saved_as: the file that the sentence before it names (`... as `shop.py`:`)."""

    page: Path
    language: str
    text: str
    line: int
    saved_as: str | None = None

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        if match[1] in languages:
            before = text[: match.start()]
            saved_as = _SAVED_AS.search(before)
            yield Block(page, match[1], match[2], before.count("\n") + 2, saved_as[1] if saved_as else None)


def without_blocks(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
