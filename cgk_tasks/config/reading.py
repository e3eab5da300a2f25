"""Reading the settings: once a runtime, from the environment, `.env`, `.env.local` and running private servers."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from cgk_tasks.config import misspelt, private_servers
from cgk_tasks.config.addresses import LOOPBACK
from cgk_tasks.config.env_files import ENV_FILES, text_of
from cgk_tasks.config.settings import Settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.logger import get_logger
from cgk_tasks.runtime import Part, current_runtime

log = get_logger("cgk_tasks.config")


def get_settings() -> Settings:
    """The settings of the current runtime. Raises ConfigurationError that names the variable and what is wrong."""
    try:
        settings: Settings = current_runtime().kept[SETTINGS]
    except KeyError:
        settings = SETTINGS.current()
    return settings


def use_settings(settings: Settings | None) -> None:
    """Replace the settings of the current runtime (None: read them again at next use). Meant for tests.

    Connections made with the old ones are closed.
    """
    runtime = current_runtime()
    runtime.renew()
    if settings is not None:
        runtime.put(SETTINGS, settings)


def misspelt_in_files() -> list[str]:
    """A sentence on each CGK_ name in the `.env` files that is no setting. They are ignored there."""
    return misspelt.in_files(Settings)


def _private_servers(settings: Settings) -> dict[str, str]:
    """What leads to the private servers of this folder, where the environment names no servers."""
    found = private_servers.found_settings()
    if settings.encryption_keys:
        found.pop("encryption_keys", None)
    return found


def _read_settings() -> Settings:
    for file in ENV_FILES:
        text_of(Path(file))  # names a file that is not UTF-8; pydantic's error would not
    try:
        settings = Settings()
        if settings.database_url is None and settings.broker_url is None and settings.provider in (None, "celery"):
            settings = Settings(**_private_servers(settings))
    except ValidationError as exc:
        problems = "; ".join(
            f"CGK_{'_'.join(str(part) for part in error['loc']).upper()}: {error['msg']}" for error in exc.errors()
        )
        raise ConfigurationError(f"A setting is wrong: {problems}") from None
    for problem in misspelt.in_files(Settings):
        log.warning("setting_unknown", reason=problem)
    for problem in misspelt.retired():
        log.warning("setting_retired", reason=problem)
    if settings.metrics_port:
        address = f"{settings.metrics_address or LOOPBACK}:{settings.metrics_port}"
        log.warning("setting_deprecated", hint=f"Write CGK_METRICS_ADDRESS={address} instead of CGK_METRICS_PORT.")
    return settings


SETTINGS = Part(_read_settings, survives_fork=True)
