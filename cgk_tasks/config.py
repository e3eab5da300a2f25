"""Settings of cgk_tasks, read once from the environment, `.env`, `.env.local` and running embedded services."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cgk_tasks.encryption_keys import key_bytes
from cgk_tasks.errors import ConfigurationError

ProviderName = Literal["celery", "local", "inngest", "trigger.dev"]
HOSTED_PROVIDERS = ("inngest", "trigger.dev")
"""Those that run jobs elsewhere, with neither PostgreSQL nor a broker of ours."""
Isolation = Literal["search_path", "role", "rls"]
AlertKind = Literal["run_failed", "schedule_missed", "worker_lost", "queue_age"]
AlertChannel = Literal["critical", "error", "warning", "info", "default"]
MAX_PAYLOAD_BYTES = 256 * 1024
_ENV_FILES = (".env", ".env.local")

log = structlog.get_logger("cgk_tasks.config")


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _checked_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for key in keys:
        key_bytes(key.get_secret_value())
    return keys


# Comma-separated lists in the environment, not JSON.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Delays = Annotated[tuple[NonNegativeFloat, ...], NoDecode, BeforeValidator(_split)]
Keys = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), AfterValidator(_checked_keys)]


class Settings(BaseSettings):
    """Every setting, with its unit in the name or the comment. Variables are `CGK_` + the name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="CGK_",
        env_file=_ENV_FILES,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    provider: ProviderName | None = Field(
        default=None,
        validation_alias=AliasChoices("JOBS_PROVIDER", "JOB_PROVIDER", "CGK_PROVIDER"),
        description="Where send_job sends. Unset: celery if a database is configured, else local.",
    )
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL 15 or newer, e.g. postgresql://user:password@host/database"
    )
    broker_url: SecretStr | None = Field(
        default=None, description="Redis 6.2 or newer, or RabbitMQ 3.10 or newer, e.g. redis://localhost:6379/0"
    )
    inngest_event_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("INNGEST_EVENT_KEY", "CGK_INNGEST_EVENT_KEY"),
        description="Provider inngest: the key that events are sent with.",
    )
    inngest_signing_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("INNGEST_SIGNING_KEY", "CGK_INNGEST_SIGNING_KEY"),
        description="Provider inngest: the key that runs are read, cancelled and retried with; begins with `signkey`.",
    )
    inngest_base_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("INNGEST_BASE_URL", "CGK_INNGEST_BASE_URL"),
        description="Provider inngest: a server of your own, or the Dev Server. Unset: Inngest Cloud.",
    )
    trigger_secret_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("TRIGGER_SECRET_KEY", "TRIGGER_DEV_SECRET_KEY", "CGK_TRIGGER_SECRET_KEY"),
        description="Provider trigger.dev: the secret key of an environment; begins with `tr_`.",
    )
    trigger_project_ref: str | None = Field(
        default=None,
        validation_alias=AliasChoices("TRIGGER_PROJECT_REF", "CGK_TRIGGER_PROJECT_REF"),
        description="Provider trigger.dev: read by its own tools. Here the secret key says which project it is.",
    )
    trigger_api_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("TRIGGER_API_URL", "CGK_TRIGGER_API_URL"),
        description="Provider trigger.dev: a server of your own. Unset: Trigger.dev Cloud.",
    )
    provider_timeout_seconds: PositiveFloat = Field(
        default=15.0, description="How long a request to Inngest or Trigger.dev may take, with its repeats."
    )
    key_prefix: str = Field(default="", description="Put before every key and queue in Redis, per deployment.")
    catalog: str = Field(
        default="cgk_tasks.catalog",
        description="The module with the platform's events and schedules; `none` for none, or a module of your own.",
    )
    job_modules: Names = Field(
        default=(), description="Modules with @define_job, imported by the worker; separated by commas."
    )

    default_queue: str = Field(default="cgk", description="Queue of a send that names none.")
    queues: Names = Field(
        default=(), description="Further queues that a worker without -Q listens to; separated by commas."
    )
    default_timeout_seconds: PositiveFloat = Field(
        default=3600.0, description="Soft time limit of a job that names none."
    )
    hard_timeout_grace_seconds: PositiveFloat = Field(
        default=30.0, description="A job that ignores its soft limit this long is killed with its process."
    )
    max_payload_bytes: PositiveInt = Field(default=MAX_PAYLOAD_BYTES, description="Larger payloads are refused.")
    idempotency_seconds: PositiveFloat = Field(
        default=86400.0, description="How long an idempotency key is remembered."
    )

    tenant_isolation: Isolation = Field(
        default="role", description="How tenants added from now on are kept apart in the database."
    )
    tenant_schema: str = Field(default="tenant_{id}", description="Schema of a tenant that names none.")
    tenants_query: str | None = Field(
        default=None,
        description="SQL that lists the active tenants of the platform: one column (id) or two (id, schema).",
    )
    tenants_refresh_seconds: PositiveFloat = Field(
        default=10.0, description="How long a process trusts what it knows about a tenant."
    )
    tenant_setup: str | None = Field(
        default=None,
        description="module:function called by `tenants add` with the tenant and a connection in its schema.",
    )
    storage_root: Path = Field(default=Path(".cgk/storage"), description="Parent folder of the tenants' files.")
    cache_url: SecretStr | None = Field(default=None, description="Redis of the tenant cache. Unset: the broker.")

    dispatch_interval_seconds: PositiveFloat = Field(
        default=0.25, description="How often the dispatcher looks for due runs."
    )
    dispatch_batch: PositiveInt = Field(default=1000, description="Runs dispatched by one statement.")
    dispatch_patience_seconds: PositiveFloat = Field(
        validation_alias=AliasChoices("CGK_DISPATCH_PATIENCE_SECONDS", "CGK_HAND_OVER_PATIENCE_SECONDS"),
        default=5.0,
        description="How old an unclaimed dispatch must be before it is suspected lost.",
    )
    heartbeat_seconds: PositiveFloat = Field(default=5.0, description="Interval of a worker's heartbeat.")
    worker_timeout_seconds: PositiveFloat = Field(
        default=30.0, description="Silence after which a worker counts as dead and its runs are reclaimed."
    )
    max_deaths: PositiveInt = Field(default=3, description="A run that killed its process this often is failed.")
    packet_budget_seconds: PositiveFloat = Field(
        default=0.1, description="After this time a packet gives back the runs it has not begun."
    )
    database_patience_seconds: PositiveFloat = Field(
        default=300.0, description="How long a worker keeps trying to record an outcome while PostgreSQL is away."
    )
    schedules_need_jobs: bool = Field(
        default=False,
        description="Beat leaves out schedules whose event has no job in `CGK_JOB_MODULES`, where runs would be unhandled.",
    )
    history_days: PositiveInt = Field(default=90, description="Closed runs are dropped after this many days.")

    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, JSON lines otherwise."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe lines that are logged."
    )
    log_tracebacks: bool | None = Field(
        default=None,
        description="Tracebacks of failed runs in the log, not only in the record: their texts may quote payloads. "
        "Unset: on a terminal only.",
    )
    run_logs: bool = Field(
        default=True, description="Keep the lines that jobs log with their run, for `cgk-tasks runs logs`."
    )
    run_log_bytes: PositiveInt = Field(
        default=65_536, description="Of a run's lines, so many bytes are kept; the rest is counted."
    )

    metrics_port: NonNegativeInt = Field(
        default=0, le=65_535, description="Port of a worker's own metrics; 0: a worker counts nothing and serves none."
    )
    metrics_address: str = Field(
        default="127.0.0.1", description="Address that a worker serves its metrics on; 0.0.0.0 for all."
    )
    exporter: str = Field(default="127.0.0.1:9808", description="Address and port of `cgk-tasks metrics`.")
    metrics_top_tenants: NonNegativeInt = Field(
        default=20, description="So many tenants, those with the most open runs, have metrics of their own."
    )
    tracing: bool = Field(default=False, description="Trace runs with OpenTelemetry; needs the extra `otel`.")

    alerts: Annotated[tuple[AlertKind, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description="What is told with the event system.alert; separated by commas.",
    )
    alert_events: Names = Field(
        default=(),
        description="The critical events: failed runs of these are told by run_failed; separated by commas, * for all.",
    )
    alert_queue_age_seconds: PositiveFloat = Field(
        default=600.0, description="queue_age tells of a run that could run and has waited longer than this."
    )
    alert_window_seconds: PositiveFloat = Field(
        default=3600.0, description="The same alert is sent at most once in this time."
    )
    alert_interval_seconds: PositiveFloat = Field(default=15.0, description="How often the leading worker looks.")
    alert_tenant: str = Field(
        default="platform", description="The tenant that alerts are sent for; platform is no customer."
    )

    encryption_keys: Keys = Field(
        default=(),
        description="What tenants' credentials and webhook secrets are encrypted with, made by `cgk-tasks secrets key`; "
        "separated by commas, the newest first.",
    )
    smtp_url: SecretStr | None = Field(
        default=None,
        description="Switches email.send on: smtp+starttls://user:password@host:587, smtps://… or smtp://…; "
        "`per-tenant` if only tenants have one.",
    )
    email_from: str | None = Field(default=None, description="Sender of a tenant that has none of its own.")
    email_templates: Path = Field(default=Path("templates/email"), description="Folder of the emails' templates.")
    sms_url: SecretStr | None = Field(
        default=None, description="Switches sms.send on: an apprise URL with {to} in it, or `per-tenant`."
    )
    slack_url: SecretStr | None = Field(
        default=None, description="Switches slack.notify on: an apprise URL, {channel} in it or not, or `per-tenant`."
    )
    push_url: SecretStr | None = Field(
        default=None, description="Switches push.notification on: an apprise URL with {user_id} in it, or `per-tenant`."
    )
    webhooks: bool = Field(default=False, description="Switches the jobs of webhook.received and its like on.")
    webhook_timeout_seconds: PositiveFloat = Field(
        default=15.0, description="From the look-up of an endpoint's name to the end of its answer, at most."
    )
    webhook_retry_seconds: Delays = Field(
        default=(5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0),
        description="Waits before the second attempt of a delivery, the third, …; separated by commas.",
    )
    webhook_give_up_seconds: PositiveFloat = Field(
        default=86400.0, description="An endpoint that has only failed for so long is switched off."
    )
    webhook_private_hosts: Names = Field(
        default=(),
        description="Hosts that webhooks may reach at private addresses and by http, for development; "
        "separated by commas.",
    )
    system_jobs: bool = Field(
        default=False, description="Switches system.healthCheck, system.cleanup and system.syncRecovery on."
    )
    alert_urls: dict[AlertChannel, tuple[SecretStr, ...]] = Field(
        default={},
        description="Switches system.alert on: a JSON object with a list of apprise URLs for each severity; `default` is "
        "for those not named.",
    )

    dashboard_users_file: Path = Field(
        default=Path(".cgk/dashboard-users.json"),
        description="Who may log in to the dashboard; written by `cgk-tasks dashboard user add`.",
    )
    dashboard_roles: Names = Field(
        default=(),
        description="Roles of those who log in by Flower's own ways (OAuth, --basic_auth), as "
        "ada@example.com=admin,*@example.com=viewer; the first that fits. Others are viewers.",
    )
    dashboard_open_on_loopback: bool = Field(
        default=False,
        description="No login where the dashboard listens on 127.0.0.1 only: everybody on the machine is admin.",
    )
    dashboard_show_sensitive: bool = Field(
        default=False, description="Admins may see personal data in payloads; each look is in the audit."
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        _refuse_unknown_variables(type(self))

    @property
    def tracebacks_in_log(self) -> bool:
        return sys.stderr.isatty() if self.log_tracebacks is None else self.log_tracebacks

    @property
    def database(self) -> str:
        """The database URL; raises ConfigurationError when none is set."""
        if self.database_url is None:
            if self.provider in HOSTED_PROVIDERS:
                raise ConfigurationError(
                    (
                        f"No database is configured, and JOBS_PROVIDER is {self.provider}: jobs run there, not in workers of "
                        "this application."
                    ),
                    hint="For runs in PostgreSQL set JOBS_PROVIDER=celery and CGK_DATABASE_URL.",
                )
            raise ConfigurationError(
                "No database is configured.",
                hint=(
                    "Set CGK_DATABASE_URL=postgresql://user:password@host/database, "
                    "or run `cgk-tasks dev` in this folder to start a private one."
                ),
            )
        return self.database_url.get_secret_value()

    @property
    def broker(self) -> str:
        """The broker URL; raises ConfigurationError when none is set."""
        if self.broker_url is None:
            raise ConfigurationError(
                "No broker is configured.",
                hint=(
                    "Set CGK_BROKER_URL=redis://host:6379/0, "
                    "or run `cgk-tasks dev` in this folder to start a private one."
                ),
            )
        return self.broker_url.get_secret_value()


def _refuse_unknown_variables(model: type[Settings]) -> None:
    """A misspelt CGK_ variable is an error: pydantic-settings would ignore it silently."""
    for variable, hint in _unknown(os.environ, model):
        raise ConfigurationError(f"The environment variable {variable} is not a setting.", hint=hint.strip() or None)


def misspelt_in_files() -> list[str]:
    """A sentence on each CGK_ name in the `.env` files that is no setting. They are ignored there.

    No error as in the environment: the files belong to other programs as well.
    """
    return [
        f"{variable} in {file} is not a setting, and is ignored.{hint}"
        for file in _ENV_FILES
        if Path(file).is_file()
        for variable, hint in _unknown(dotenv_values(file, interpolate=False), Settings)
    ]


def _unknown(variables: Iterable[str], model: type[Settings]) -> Iterator[tuple[str, str]]:
    """The CGK_ names that are no settings, each with a hint at the nearest that is one."""
    known = {f"CGK_{name.upper()}" for name in model.model_fields} | _OTHER_VARIABLES
    for variable in variables:
        if variable.upper().startswith("CGK_") and variable.upper() not in known:
            nearest = difflib.get_close_matches(variable.upper(), known, n=1)
            yield variable, f" Did you mean {nearest[0]}?" if nearest else ""


# Read by a test or by the worker itself, not settings of the application.
_OTHER_VARIABLES = {"CGK_TRACEBACK", "CGK_WORKER_ID", "CGK_HAND_OVER_PATIENCE_SECONDS"}


def _embedded_settings(settings: Settings) -> dict[str, Any]:
    """URLs of the embedded services that run for this folder, if the environment names no servers; and their key."""
    if not Path(".cgk/services.json").exists():
        return {}
    from cgk_tasks import embedded

    services = embedded.find()
    if services is None:
        return {}
    found = {"database_url": services.database_url, "broker_url": services.broker_url}
    if not settings.encryption_keys and services.encryption_key:
        found["encryption_keys"] = services.encryption_key
    return found


_settings: Settings | None = None


def get_settings() -> Settings:
    """The settings of this process. Raises ConfigurationError that names the variable and what is wrong."""
    global _settings  # noqa: PLW0603 - settings are read once a process
    if _settings is None:
        _settings = _read_settings()
    return _settings


def use_settings(settings: Settings | None) -> None:
    """Replace the settings of this process (None: read them again at next use). Meant for tests."""
    global _settings  # noqa: PLW0603
    _settings = settings


def _read_settings() -> Settings:
    try:
        settings = Settings()
        if settings.database_url is None and settings.broker_url is None and settings.provider in (None, "celery"):
            settings = Settings(**_embedded_settings(settings))
    except ValidationError as exc:
        problems = "; ".join(
            f"CGK_{'_'.join(str(part) for part in error['loc']).upper()}: {error['msg']}" for error in exc.errors()
        )
        raise ConfigurationError(f"A setting is wrong: {problems}") from None
    for problem in misspelt_in_files():
        log.warning("setting_unknown", reason=problem)
    return settings
