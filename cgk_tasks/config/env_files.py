"""The files `.env` and `.env.local` of the working folder: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

from dotenv import dotenv_values

from cgk_tasks.errors import ConfigurationError

ENV_FILES = (".env", ".env.local")
"""The later one wins."""

ENCODING = "utf-8-sig"


def text_of(path: Path) -> str:
    """The text of an env file; empty if there is none. Raises ConfigurationError for one that is not UTF-8."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return ""
    try:
        text = data.decode(ENCODING)
    except UnicodeDecodeError as exc:
        what = f"byte {exc.start + 1} is not"
    else:
        if "\0" not in text:
            return text
        what = "it has zero bytes"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        what = "it looks like UTF-16, as Windows PowerShell writes with >"
    raise ConfigurationError(
        f"{path} is not UTF-8: {what}. Save it anew with the encoding UTF-8, with or without a byte order mark: in an "
        "editor by its Save As, in PowerShell with Set-Content -Encoding utf8."
    )


def values_of(path: Path, *, interpolate: bool = True) -> dict[str, str | None]:
    """The variables of an env file. Raises ConfigurationError as `text_of`."""
    return dotenv_values(stream=io.StringIO(text_of(path)), interpolate=interpolate)
