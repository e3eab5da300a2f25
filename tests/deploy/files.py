"""The files in deploy/, and what they name."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cgk_tasks.config import CONCERNS, Settings
from cgk_tasks.config.value_files import variables_of
from tests.docs.pages import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/cgk-tasks"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
GROUP = "the group `deploy` is not installed: make test-deploy"

VALUES: dict[str, Any] = {
    "image": {"repository": "shop/jobs", "tag": "1"},
    "secret": {"name": "shop"},
    "settings": {"CGK_JOB_MODULES": "shop"},
}
"""The least that the chart asks for."""

_INTERPOLATION = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def variables() -> set[str]:
    """Every variable that a process of ours reads."""
    aliases = {
        str(choice)
        for concern in CONCERNS
        for field in concern.model_fields.values()
        for choice in getattr(field.validation_alias, "choices", ())
    }
    return {f"CGK_{name.upper()}" for name in Settings.model_fields} | aliases | variables_of(Settings)


def secret_variables() -> set[str]:
    """Those of settings whose values are shown to nobody."""
    found = set()
    for concern in CONCERNS:
        for name, field in concern.model_fields.items():
            if "Secret" in str(field.annotation):
                found.add(f"CGK_{name.upper()}")
                found |= {str(choice) for choice in getattr(field.validation_alias, "choices", ())}
    return found


def compose(values: dict[str, str]) -> dict[str, Any]:
    """compose.yaml as Compose reads it with these variables; others have their defaults. KeyError: one is missing."""

    def text(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        given = values.get(name)
        if given:
            return given
        if kind == "?":
            raise KeyError(name)
        return default or ""

    def read(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: read(value) for key, value in node.items()}
        if isinstance(node, list):
            return [read(value) for value in node]
        if isinstance(node, str):
            found = "$".join(_INTERPOLATION.sub(text, part) for part in node.split("$$"))
            return int(found) if found.isdigit() and node != found else found
        return node

    return read(yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text()))


def interpolated() -> set[str]:
    """The variables that compose.yaml names."""
    text = (DEPLOY / "compose/compose.yaml").read_text().replace("$$", "")
    return {match[1] for match in _INTERPOLATION.finditer(text)}


class ChartError(Exception):
    """The chart is not rendered, and says why."""


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """What `helm template shop deploy/helm/cgk-tasks` makes of these values, over VALUES."""
    merged = _merged(VALUES, values)
    texts = _by_program(merged) if shutil.which("helm") else _by_library(merged)
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(under[key], value) if isinstance(value, dict) and isinstance(under.get(key), dict) else value
        for key, value in over.items()
    }
    return {**under, **both}


def _by_program(values: dict[str, Any]) -> list[str]:
    done = subprocess.run(
        ["helm", "template", "shop", str(CHART), "--values", "-"],
        input=yaml.safe_dump(values), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ChartError(done.stderr)
    return [done.stdout]


def _by_library(values: dict[str, Any]) -> list[str]:
    helm = pytest.importorskip("helm_python", reason=GROUP)
    with helm.Chart.load(str(CHART)) as chart:
        try:
            chart.validate_schema(values)
            rendered = chart.render(values, name="shop", namespace="jobs")
        except helm.HelmError as error:
            raise ChartError(str(error)) from None
    return [text for name, text in rendered.items() if name.endswith(".yaml")]


def is_command(arguments: list[str]) -> bool:
    """Whether what a container or unit runs is one of our commands, or one of Celery's with our app."""
    program, *rest = arguments
    if program == "cgk-tasks":
        from cgk_tasks.cli.program import program as tree

        return rest[0] in {*(command.name for command in tree.registered_commands), *(
            group.name for group in tree.registered_groups
        )}  # fmt: skip
    return program == "celery" and rest[:2] == ["-A", "cgk_tasks"] and rest[2] in {"worker", "beat", "flower"}


def bin_folder() -> Path:
    return Path(sys.executable).parent
