"""The kinds of values that settings have. Lists in the environment are separated by commas; they are not JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, NonNegativeFloat, NonNegativeInt, SecretStr
from pydantic_settings import NoDecode

from cgk_tasks.config.encryption_keys import key_bytes

ProviderName = Literal["celery", "local", "inngest", "trigger.dev"]
HOSTED_PROVIDERS = ("inngest", "trigger.dev")
"""Those that run jobs elsewhere, with neither PostgreSQL nor a broker of ours."""
Isolation = Literal["search_path", "role", "rls"]
AlertKind = Literal["run_failed", "schedule_missed", "worker_lost", "queue_age", "tenant_quarantined"]
AlertChannel = Literal["critical", "error", "warning", "info", "default"]
MAX_PAYLOAD_BYTES = 256 * 1024


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _checked_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for key in keys:
        key_bytes(key.get_secret_value())
    return keys


def _none_is_zero(value: object) -> object:
    return 0 if isinstance(value, str) and value.strip().lower() == "none" else value


Threshold = Annotated[NonNegativeInt, BeforeValidator(_none_is_zero)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
AlertKinds = Annotated[tuple[AlertKind, ...], NoDecode, BeforeValidator(_split)]
Delays = Annotated[tuple[NonNegativeFloat, ...], NoDecode, BeforeValidator(_split)]
Keys = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), AfterValidator(_checked_keys)]
SecretTexts = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
