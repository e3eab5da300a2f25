"""Secrets that an application names itself: a variable of the environment, or a file that one names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from cgk_tasks.config.env_files import ENV_FILES, values_of
from cgk_tasks.config.value_files import SUFFIX, file_text
from cgk_tasks.errors import ConfigurationError

_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")


def is_variable(name: object) -> bool:
    """Whether this can be the name of a variable, and so is hardly a secret that was written in its place."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def named_secrets(variable: str) -> tuple[str, ...]:
    """The values of a variable, separated by commas: of the environment, of the file that `VARIABLE_FILE` names, or of
    `.env.local` and `.env`. Looked up at each call, so a secret that is mounted anew counts at once.

    Raises ConfigurationError where there is none; it quotes no value.
    """
    text = _of_environment(variable)
    if text is None:
        text = next((value for file in reversed(ENV_FILES) if (value := values_of(Path(file)).get(variable))), None)
    secrets = tuple(part for one in (text or "").split(",") if (part := one.strip()))
    if not secrets:
        raise ConfigurationError(
            f"There is no secret in {variable}.",
            hint=f"Set {variable}, or {variable}{SUFFIX} to a file that has it; several are separated by commas.",
        )
    return secrets


def _of_environment(variable: str) -> str | None:
    if path := os.environ.get(f"{variable}{SUFFIX}"):
        return file_text(f"{variable}{SUFFIX}", Path(path))
    return os.environ.get(variable)
