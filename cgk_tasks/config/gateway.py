"""Settings: the HTTP gateway."""

from __future__ import annotations

import re
from typing import Final

from pydantic import (
    AliasChoices,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
)

from cgk_tasks.config.concern import Concern
from cgk_tasks.config.kinds import Keys, Names, SecretTexts

_ORIGIN: Final = re.compile(r"https?://[^/?#@\s*]+")


class GatewaySettings(Concern):
    """HTTP gateway."""

    gateway_max_body_bytes: PositiveInt = Field(
        default=4 * 1024 * 1024,
        description="A larger body of a request is refused; of NDJSON, a larger chunk of lines.",
    )
    gateway_requests_per_minute: NonNegativeInt = Field(
        default=6000, description="Requests of one key in any minute, and chunks of NDJSON; 0 for any number."
    )
    gateway_requests_at_once: PositiveInt = Field(
        default=100,
        description="Requests of one key that a gateway works on at the same time, waits for runs included.",
    )
    gateway_body_seconds: PositiveFloat = Field(
        default=30.0, description="A request whose body does not go on for so long is given up."
    )
    gateway_streams_at_once: PositiveInt = Field(
        default=1000, description="Streams of one tenant that a gateway keeps open at the same time."
    )
    gateway_stream_seconds: PositiveFloat = Field(
        default=300.0,
        description="A stream ends after so long, or up to a fifth sooner. Its client connects again, and its key or "
        "token is looked at anew.",
    )
    gateway_heartbeat_seconds: PositiveFloat = Field(
        default=15.0,
        description="A stream that has nothing to tell sends a comment so often. Less than any proxy between waits.",
    )
    gateway_origins: Names = Field(
        default=(),
        description="Pages of these origins may read streams, like https://shop.example.com; separated by commas.",
    )
    browser_token_keys: Keys = Field(
        default=(),
        description="What the tokens of browsers are signed with, made by `cgk-tasks secrets key`; separated by "
        "commas, the newest first. Unset: keys that are derived from CGK_ENCRYPTION_KEYS.",
    )
    gateway_metrics: str = Field(
        default="",
        description="Address and port of the metrics of `cgk-tasks gateway`, like 127.0.0.1:9810. Unset: it "
        "serves none.",
    )
    signal_url: str | None = Field(
        default=None,
        description="Where the gateway serves the URLs of `wf.signal_url`, like https://jobs.example.com/signals.",
    )
    signal_url_keys: Keys = Field(
        default=(),
        description="What those URLs are signed with, made by `cgk-tasks secrets key`; separated by commas, the newest "
        "first. Unset: keys that are derived from CGK_ENCRYPTION_KEYS.",
    )

    gateway_url: str | None = Field(
        default=None,
        description="Where the gateway is reached from outside, like https://jobs.example.com: QStash signs it.",
    )
    cron_secret: SecretTexts = Field(
        default=(),
        validation_alias=AliasChoices("CRON_SECRET", "CGK_CRON_SECRET"),
        description="Calls of `/v1/tick` with it as bearer token make due schedules tick, as those of Vercel Cron; at "
        "least 16 characters, several separated by commas.",
    )
    qstash_current_signing_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QSTASH_CURRENT_SIGNING_KEY", "CGK_QSTASH_CURRENT_SIGNING_KEY"),
        description="Calls of `/v1/tick` that QStash has signed with it make due schedules tick.",
    )
    qstash_next_signing_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QSTASH_NEXT_SIGNING_KEY", "CGK_QSTASH_NEXT_SIGNING_KEY"),
        description="The one that QStash will sign with after a change of keys; it counts too.",
    )

    @property
    def qstash_keys(self) -> tuple[str, ...]:
        """Both keys of QStash, as far as they are set."""
        keys = (self.qstash_current_signing_key, self.qstash_next_signing_key)
        return tuple(text for key in keys if key is not None and (text := key.get_secret_value()))

    @field_validator("signal_url", "gateway_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("it must begin with https:// or http://")
        return value or None

    @field_validator("gateway_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: it must be like https://shop.example.com, without a path")
        return value
