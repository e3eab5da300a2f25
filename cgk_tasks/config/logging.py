"""Settings: logs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from cgk_tasks.config.concern import Concern


class LogSettings(Concern):
    """Logs."""

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
    run_metadata_bytes: PositiveInt = Field(
        default=65_536, description="More of `ctx.metadata` is refused, of one run as JSON."
    )
