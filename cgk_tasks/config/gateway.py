"""Settings: the HTTP gateway."""

from __future__ import annotations

from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from cgk_tasks.config.kinds import Keys


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
