"""Settings: the HTTP gateway."""

from __future__ import annotations

import re
from typing import Final

from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from cgk_tasks.config.kinds import Keys, Names

_ORIGIN: Final = re.compile(r"https?://[^/?#@\s*]+")


class GatewaySettings(BaseModel):
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

    @field_validator("signal_url")
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
