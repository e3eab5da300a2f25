"""A kept traceback, taken apart: the application's own frames, and those of libraries.

It is a text as Python prints it (`runs/text.py`), without its beginning where it was long, and perhaps of another
machine and another Python. So paths are looked at, and no file is opened. A text of another kind is one part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

Kind = Literal["own", "library", "text"]

# With what marks the members of an exception group, as in `  |   File "shop.py", line 3, in f`.
_FRAME: Final = re.compile(r'(?P<margin>[ |+]*?)  File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<function>.*))?')
_LIBRARIES: Final = ("/site-packages/", "/dist-packages/")
_OF_PYTHON: Final = re.compile(r"/lib(64)?/python\d(\.\d+)?t?/|/python[\d.]*/lib/|/python\d+\.zip/", re.IGNORECASE)
_MADE: Final = re.compile(r"<(?!string>|stdin>|ipython)")
"""What has no file: `<frozen importlib._bootstrap>`, a generated `__init__`. What somebody typed is theirs."""
_PACKAGE: Final = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of a traceback that belong together: a frame, or what stands between frames.

    file, line, function: of a frame. source: its first line of code, where the text has it.
    """

    kind: Kind
    lines: tuple[str, ...]
    file: str = ""
    line: int = 0
    function: str = ""

    @property
    def source(self) -> str:
        return self.lines[1].lstrip(" |").rstrip() if self.kind != "text" and len(self.lines) > 1 else ""

    @property
    def short_file(self) -> str:
        """The last three parts of the path, which is what people know it by."""
        parts = re.split(r"[/\\]", self.file)
        return "/".join(parts[-3:]) if len(parts) > 3 else self.file


@dataclass(frozen=True, slots=True)
class Raised:
    """One of the exceptions of a traceback, which its causes precede. said: its type and text."""

    own: tuple[Part, ...]
    said: str


@dataclass(frozen=True, slots=True)
class Traceback:
    """text: all of it. raised: what has frames of the application's own, in the order of the text. libraries: how many
    frames are not the application's.
    """

    text: str
    raised: tuple[Raised, ...]
    libraries: int


def parts_of(text: str) -> list[Part]:
    """All lines of a text, in their order, taken apart. Never raises."""
    parts: list[Part] = []
    taken: list[str] = []
    frame: re.Match[str] | None = None
    for line in text.split("\n"):
        begun = _FRAME.fullmatch(line)
        if begun is None and (frame is None or _is_of_frame(line, frame)):
            taken.append(line)
            continue
        if taken:
            parts.append(_part(taken, frame))
        taken, frame = [line], begun
    parts.append(_part(taken, frame))
    return parts


def _is_of_frame(line: str, frame: re.Match[str]) -> bool:
    """Code, and what points at a place in it, are indented further than the frame."""
    return line.startswith(f"{frame['margin']}    ")


def _part(lines: list[str], frame: re.Match[str] | None) -> Part:
    if frame is None:
        return Part("text", tuple(lines))
    kind: Kind = "library" if is_of_library(frame["file"]) else "own"
    # int() refuses numbers of thousands of digits.
    return Part(kind, tuple(lines), frame["file"], int(frame["line"][:9]), frame["function"] or "")


def traceback_of(text: str) -> Traceback:
    """What is shown of a traceback. Never raises."""
    parts = parts_of(text)
    return Traceback(text, tuple(_raised(parts)), sum(part.kind == "library" for part in parts))


def _raised(parts: Iterable[Part]) -> Iterator[Raised]:
    own: list[Part] = []
    for part in parts:
        if part.kind == "own":
            own.append(part)
        elif part.kind == "text" and own and (said := _said(part.lines)):
            yield Raised(tuple(own), said)
            own = []
    if own:
        yield Raised(tuple(own), "")


def _said(lines: tuple[str, ...]) -> str:
    """The exception's type and text: the first line after the frames. Lines about repeated frames go on with them."""
    first = lines[0].lstrip(" |")
    return "" if first.startswith("[Previous line repeated") and len(lines) == 1 else first or " "


def is_of_library(file: str) -> bool:
    """Whether a file is of Python, of a package that was installed, or of cgk_tasks."""
    path = file.replace("\\", "/")
    if any(folder in path for folder in _LIBRARIES) or _OF_PYTHON.search(path) or _MADE.match(path):
        return True
    _, found, inside = path.rpartition("/cgk_tasks/")
    return bool(found) and inside in _own_files()


@cache
def _own_files() -> frozenset[str]:
    """Those of cgk_tasks. An application may have a folder of that name, too."""
    return frozenset(file.relative_to(_PACKAGE).as_posix() for file in _PACKAGE.rglob("*.py"))
