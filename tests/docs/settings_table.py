"""The tables of docs/reference/settings.md as the code has them: `python tests/docs/settings_table.py` prints them."""

from pathlib import Path
from typing import get_args

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from cgk_tasks.config import CONCERNS


def tables() -> dict[str, list[str]]:
    """By heading, one for each concern: `| variable | default | meaning |` for each of its settings."""
    return {
        str(concern.__doc__).rstrip("."): [
            f"| {_variable(name, field)} | {_default(field)} | {field.description}{_choices(field)} |"
            for name, field in concern.model_fields.items()
        ]
        for concern in CONCERNS
    }


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [f"CGK_{name.upper()}"]
    return ", ".join(f"`{one}`" for one in names)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, tuple):
        return f"`{','.join(one if isinstance(one, str) else f'{one:g}' for one in value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value.as_posix() if isinstance(value, Path) else value}`"


def _choices(field: FieldInfo) -> str:
    parts = [field.annotation, *get_args(field.annotation)]
    values = [value for part in parts for value in get_args(part) if isinstance(value, str)]
    return f" One of {', '.join(f'`{value}`' for value in values)}." if values else ""


if __name__ == "__main__":
    for heading, rows in tables().items():
        print(f"## {heading}", "", "| variable | default | meaning |", "| --- | --- | --- |", *rows, "", sep="\n")
