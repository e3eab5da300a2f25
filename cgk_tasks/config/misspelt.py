"""Names that begin with CGK_ and are no settings: an error in the environment, a warning in the `.env` files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from cgk_tasks.config.env_files import ENV_FILES, values_of
from cgk_tasks.config.nearest import nearest
from cgk_tasks.config.value_files import variables_of
from cgk_tasks.errors import ConfigurationError

_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR))")

RETIRED = {"CGK_SCHEDULES_NEED_JOBS": "Schedules without a job never tick."}
"""Settings of earlier versions that are without effect now, each with what holds instead."""


def refuse_in_environment(model: type[BaseModel]) -> None:
    """A misspelt CGK_ variable is an error: pydantic-settings would ignore it silently."""
    ours = (name for name, value in os.environ.items() if not _is_service_link(name, value))
    for variable, hint in _unknown(ours, model):
        raise ConfigurationError(f"The environment variable {variable} is not a setting.{hint}")


def in_files(model: type[BaseModel]) -> list[str]:
    """A sentence on each CGK_ name in the `.env` files that is no setting. They are ignored there.

    No error as in the environment: the files belong to other programs as well.
    """
    return [
        f"{variable} in {file} is not a setting, and is ignored.{hint}"
        for file in ENV_FILES
        for variable, hint in _unknown(values_of(Path(file), interpolate=False), model)
    ]


def retired() -> list[str]:
    """A sentence on each setting in the environment that has no effect any more."""
    return [
        f"{name} has no effect any more and can be removed: {why}"
        for name, why in RETIRED.items()
        if name in os.environ
    ]


def _is_service_link(variable: str, value: str) -> bool:
    """Kubernetes tells every pod of a namespace of all its services: one called `cgk-dashboard` is in
    `CGK_DASHBOARD_SERVICE_HOST` and `CGK_DASHBOARD_PORT=tcp://10.0.0.7:80`, and in some that begin like these.
    """
    return _SERVICE_LINK.fullmatch(variable) is not None or (
        "_PORT" in variable and value.startswith(("tcp://", "udp://", "sctp://"))
    )


def _unknown(variables: Iterable[str], model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The CGK_ names that are no settings, each with a hint at the nearest that is one."""
    known = {f"CGK_{name.upper()}" for name in model.model_fields} | _OTHER_VARIABLES | RETIRED.keys()
    known |= variables_of(model)
    for variable in variables:
        if variable.upper().startswith("CGK_") and variable.upper() not in known:
            near = nearest(variable, known)
            yield variable, f" Did you mean {near}?" if near else ""


# Read by a test or by the worker itself, not settings of the application.
_OTHER_VARIABLES = {"CGK_TRACEBACK", "CGK_WORKER_ID", "CGK_DEV_LOADED_FILES", "CGK_HAND_OVER_PATIENCE_SECONDS"}
