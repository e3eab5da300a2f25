"""Settings: e-mail, messages, housekeeping."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import AlertChannel


class MessageSettings(Concern):
    """E-mail, messages, housekeeping."""

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
    alert_urls: dict[AlertChannel, tuple[SecretStr, ...]] = Field(
        default={},
        description="Switches system.alert on: a JSON object with a list of apprise URLs for each severity; "
        "`default` is "
        "for those not named.",
    )
    system_jobs: bool = Field(
        default=False, description="Switches system.healthCheck, system.cleanup and system.syncRecovery on."
    )
