"""Values from files: a variable `NAME_FILE` names a file whose content is the value of NAME, as secrets are mounted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import AliasChoices, BaseModel

from cgk_tasks.config.env_files import ENCODING
from cgk_tasks.errors import ConfigurationError

SUFFIX = "_FILE"


def variables_of(model: type[BaseModel]) -> set[str]:
    """Every variable that names a file with the value of a setting."""
    return {f"{name}{SUFFIX}" for name in _variables(model)} - {f"CGK_{name.upper()}" for name in model.model_fields}


def with_values_of_files(variables: Mapping[str, str | None], model: type[BaseModel]) -> dict[str, str | None]:
    """The variables of one place, by their names in small letters, with what files say of the settings of `model`.

    Raises ConfigurationError for a file that cannot be read and for a value that stands in both; it quotes no value.
    """
    found = dict(variables)
    for variable in sorted(variables_of(model)):
        path = variables.get(variable.lower())
        if not path:
            continue
        name = variable.removesuffix(SUFFIX)
        if variables.get(name.lower()):
            raise ConfigurationError(f"{name} and {variable} are both set.", hint="Remove one of them.")
        found[name.lower()] = file_text(variable, Path(path))
    return found


def _variables(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            yield from map(str, alias.choices)
        else:
            yield f"CGK_{name.upper()}"


def file_text(variable: str, path: Path) -> str:
    """What is in the file that a variable names, without the line's end that editors and `echo` add. Raises
    ConfigurationError.
    """
    try:
        text = path.read_bytes().decode(ENCODING).rstrip("\r\n")
    except OSError as exc:
        raise ConfigurationError(
            f"{variable} names {path}, which cannot be read: {exc.strerror}.",
            hint="Is the secret mounted there, and may this user read it?",
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{variable} names {path}, which is not UTF-8.") from None
    if not text.strip():
        raise ConfigurationError(f"{variable} names {path}, which is empty.")
    return text
