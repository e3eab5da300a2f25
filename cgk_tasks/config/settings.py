"""All settings together: a class for each concern, and what follows from several of them."""

from __future__ import annotations

import sys
from typing import Any, Final

from pydantic import BaseModel
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from cgk_tasks.config import misspelt
from cgk_tasks.config.addresses import LOOPBACK, host_and_port
from cgk_tasks.config.admission import AdmissionSettings
from cgk_tasks.config.audit import AuditSettings
from cgk_tasks.config.dashboard import DashboardSettings
from cgk_tasks.config.dispatch import DispatchSettings
from cgk_tasks.config.env_files import ENCODING, ENV_FILES
from cgk_tasks.config.gateway import GatewaySettings
from cgk_tasks.config.hosted import HostedSettings
from cgk_tasks.config.jobs import JobSettings
from cgk_tasks.config.kinds import HOSTED_PROVIDERS
from cgk_tasks.config.logging import LogSettings
from cgk_tasks.config.messages import MessageSettings
from cgk_tasks.config.monitoring import MonitoringSettings
from cgk_tasks.config.secrets import SecretSettings
from cgk_tasks.config.servers import ServerSettings
from cgk_tasks.config.tenants import TenantSettings
from cgk_tasks.config.value_files import with_values_of_files
from cgk_tasks.config.webhooks import WebhookSettings
from cgk_tasks.config.worker import WorkerSettings
from cgk_tasks.errors import ConfigurationError

CONCERNS: Final[tuple[type[BaseModel], ...]] = (
    ServerSettings,
    HostedSettings,
    JobSettings,
    TenantSettings,
    WorkerSettings,
    DispatchSettings,
    AdmissionSettings,
    AuditSettings,
    LogSettings,
    MonitoringSettings,
    SecretSettings,
    MessageSettings,
    WebhookSettings,
    DashboardSettings,
    GatewaySettings,
)
"""In the order of the reference page; their docstrings are its headings."""


class Settings(
    ServerSettings,
    HostedSettings,
    JobSettings,
    TenantSettings,
    WorkerSettings,
    DispatchSettings,
    AdmissionSettings,
    AuditSettings,
    LogSettings,
    MonitoringSettings,
    SecretSettings,
    MessageSettings,
    WebhookSettings,
    DashboardSettings,
    GatewaySettings,
    BaseSettings,
):
    """Every setting, with its unit in the name or the comment. Variables are `CGK_` + the name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="CGK_",
        env_file=ENV_FILES,
        env_file_encoding=ENCODING,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        misspelt.refuse_in_environment(type(self))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The same places in the same order; in each of them a variable may name a file with the value."""
        for place in (env_settings, dotenv_settings):
            assert isinstance(place, EnvSettingsSource)
            place.env_vars = with_values_of_files(place.env_vars, settings_cls)
        assert isinstance(dotenv_settings, EnvSettingsSource)
        if not dotenv_settings.env_vars:  # to ask it for each setting takes as long as to ask the environment
            return init_settings, env_settings, file_secret_settings
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    @property
    def tracebacks_in_log(self) -> bool:
        return sys.stderr.isatty() if self.log_tracebacks is None else self.log_tracebacks

    @property
    def database(self) -> str:
        """The database URL; raises ConfigurationError when none is set."""
        if self.database_url is None:
            if self.provider in HOSTED_PROVIDERS:
                raise ConfigurationError(
                    f"No database is configured, and JOBS_PROVIDER is {self.provider}: jobs run there, not in "
                    "workers of "
                    "this application. For runs in PostgreSQL set JOBS_PROVIDER=celery and CGK_DATABASE_URL."
                )
            raise ConfigurationError(
                "No database is configured. Set CGK_DATABASE_URL=postgresql://user:password@host/database, "
                "or run `cgk-tasks dev` in this folder to start a private one."
            )
        return self.database_url.get_secret_value()

    @property
    def broker(self) -> str:
        """The broker URL; raises ConfigurationError when none is set."""
        if self.broker_url is None:
            raise ConfigurationError(
                "No broker is configured. Set CGK_BROKER_URL=redis://host:6379/0, "
                "or run `cgk-tasks dev` in this folder to start a private one."
            )
        return self.broker_url.get_secret_value()

    @property
    def metrics_served_on(self) -> tuple[str, int] | None:
        """Address and port of a worker's own metrics; None where it serves none. Raises ConfigurationError."""
        if self.metrics_port:
            return self.metrics_address or LOOPBACK, self.metrics_port
        if not self.metrics_address or ":" not in self.metrics_address:
            return None  # an address alone is the old spelling, in which the port decides
        return host_and_port("CGK_METRICS_ADDRESS", self.metrics_address)
