"""Writing settings to `.env.local`: only their own lines change, in one step, and nobody else may read the file.

python-dotenv reads the file, here as in `Settings`. Its `set_key` does not write it: one call a key leaves a file
between two calls that is half of each, it keeps the mode of a file that all may read, and it drops `export` and
comments.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from cgk_tasks.config.env_files import text_of
from cgk_tasks.errors import ConfigurationError

_PLAIN = re.compile(r"[\w.,:/@%+=-]*", re.ASCII)
_EXPORT = re.compile(r"\s*export\s+")
_COMMENT_AFTER_QUOTES = re.compile(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")(\s*#.*)""", re.DOTALL)
_COMMENT = re.compile(r"\s+#.*")


def write(path: Path, changes: Mapping[str, str]) -> None:
    """Set variables in an env file, which is made if it is missing. Its mode is 600 afterwards.

    The file is replaced as a whole: a reader, or a kill at any moment, finds the old one or the new one. Every other
    line stays as it is, byte for byte. Raises ConfigurationError as :func:`changed`, and for a file that is not UTF-8.
    """
    target = path.resolve()  # a link stays a link
    replace_file(target, changed(text_of(target), changes), mode=0o600)


def replace_file(target: Path, text: str, *, mode: int) -> None:
    """Put a file in place whole, with this mode."""
    handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        Path(draft).chmod(mode)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def changed(text: str, changes: Mapping[str, str]) -> str:
    """The text of an env file with these variables set: in their lines, or at the end.

    Raises ConfigurationError for a value that an env file cannot hold, and for a text whose open quote would swallow
    it.
    """
    result = _changed(text, changes)
    if _values(result) != {**_values(text), **changes}:
        raise ConfigurationError(
            "A quote in the env file is never closed.", hint="Close it, or write the settings by hand."
        )
    return result


def _values(text: str) -> dict[str, str | None]:
    """What is set, by names in capitals: Settings does not look at capitals either."""
    bindings = parse_stream(io.StringIO(text, newline=""))
    return {binding.key.upper(): binding.value for binding in bindings if binding.key}


def _changed(text: str, changes: Mapping[str, str]) -> str:
    missing = {name: _written(name, value) for name, value in changes.items()}
    written = dict(missing)
    lines = []
    for binding in parse_stream(io.StringIO(text, newline="")):
        name = (binding.key or "").upper()
        lines.append(_line(binding, name, written[name]) if name in written else binding.original.string)
        missing.pop(name, None)
    newline = "\r\n" if "\r\n" in text else "\n"
    if missing and lines and not lines[-1].endswith(("\n", "\r")):
        lines.append(newline)
    mark = "\ufeff" if text.startswith("\ufeff") else ""  # which the parser takes away
    return mark + "".join([*lines, *(f"{name}={value}{newline}" for name, value in missing.items())])


def _line(binding: Binding, name: str, value: str) -> str:
    """The line of a variable with another value, with what stood around it."""
    old = binding.original.string
    space = old[: len(old) - len(old.lstrip())]
    export = "export " if _EXPORT.match(old) else ""
    return f"{space}{export}{name}={value}{_comment(old)}{old[len(old.rstrip()) :]}"


def _comment(line: str) -> str:
    value = line.strip().partition("=")[2].strip()
    found = _COMMENT_AFTER_QUOTES.match(value) if value.startswith(("'", '"')) else _COMMENT.search(value)
    if found is None:
        return value if value.startswith("#") else ""
    return found[1] if found.lastindex else found[0]


def _written(name: str, value: str) -> str:
    """The value as shells, Docker and python-dotenv all read it."""
    if _PLAIN.fullmatch(value):
        return value
    if unwritable(value):
        raise ConfigurationError(
            f"The value of {name} has quotes, backslashes, ${{ or line breaks.", hint="Use another one."
        )
    return f"'{value}'"


def unwritable(text: str) -> str:
    """The characters of a text that readers of env files take apart differently, or replace."""
    return "".join(_unwritable(text))


def _unwritable(text: str) -> Iterator[str]:
    for character in text:
        if character in "'\"\\" or not character.isprintable() or (character == "$" and "${" in text):
            yield character
