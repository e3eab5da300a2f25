"""Settings: hosted systems."""

from __future__ import annotations

from pydantic import AliasChoices, Field, PositiveFloat, SecretStr

from cgk_tasks.config.concern import Concern


class HostedSettings(Concern):
    """Hosted systems."""

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
