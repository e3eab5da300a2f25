"""Settings: servers and providers."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import Names, ProviderName, Threshold


class ServerSettings(Concern):
    """Servers and providers."""

    provider: ProviderName | None = Field(
        default=None,
        validation_alias=AliasChoices("JOBS_PROVIDER", "JOB_PROVIDER", "CGK_PROVIDER"),
        description="Where send_job sends. Unset: celery if a database is configured, else local.",
    )
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL 15 or newer, e.g. postgresql://user:password@host/database"
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="Redis 6.2 or newer, or RabbitMQ 3.10 or newer, e.g. redis://localhost:6379/0; `postgresql` for no "
        "broker, with workers inside applications alone.",
    )
    external_events: Names = Field(
        default=(),
        description="Events and tasks that a message of another producer, which carries its payload itself, may start: "
        "names separated by commas, or `*` for all. Without it such messages are refused.",
    )
    prepare_threshold: Threshold = Field(
        default=5,
        description="A statement that a connection has run this often is prepared in PostgreSQL, those of single sends "
        "and lone runs the first time; 0 or `none`: never. Unset, a connection through PgBouncer prepares none.",
    )
    key_prefix: str = Field(default="", description="Put before every key and queue in Redis, per deployment.")
    cache_url: SecretStr | None = Field(default=None, description="Redis of the tenant cache. Unset: the broker.")
