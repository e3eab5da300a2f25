"""The list in Redis of the last messages that workers could not read or refused, for people to look at."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any, Protocol

import structlog

log = structlog.get_logger("cgk_tasks.broker")

KEY = "cgk:unreadable-messages"
"""Behind the key prefix."""

MOST = 100
_KEPT_BYTES = 4096


class Lists(Protocol):
    """What is needed of a Redis client."""

    def lpush(self, name: str, *values: str) -> Any: ...
    def ltrim(self, name: str, start: int, end: int) -> Any: ...


def report(queue: str, size: int, problem: str, refused: str | None = None) -> None:
    """One line in the log, without anything of the message but the event or task that is refused."""
    if refused is not None:
        log.warning(
            "message_refused", _event=refused, queue=queue, bytes=size, problem=problem,
            hint="It was set aside. If another producer may start this, name it in CGK_EXTERNAL_EVENTS of the workers; "
            "if it is telemetry of your own, its module in CGK_JOB_MODULES.",
        )  # fmt: skip
        return
    log.warning(
        "message_unreadable", queue=queue, bytes=size, problem=problem,
        hint="It was set aside. Who else writes to this broker? The last ones are shown by: cgk-tasks doctor",
    )  # fmt: skip


def keep(client: Lists, queue: str, text: bytes | str, problem: str) -> None:
    """Put the beginning of the message on the list; the oldest go when there are a hundred."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    kept = base64.b64encode(raw[:_KEPT_BYTES]).decode()
    entry = {"queue": queue, "at": time.time(), "bytes": len(raw), "problem": problem, "begins_base64": kept}
    client.lpush(KEY, json.dumps(entry))
    client.ltrim(KEY, 0, MOST - 1)


def summary(entries: list[bytes]) -> list[Mapping[str, Any]]:
    """The entries of the list that can be read, the newest first."""
    found: list[Mapping[str, Any]] = []
    for entry in entries:
        try:
            known = json.loads(entry)
        except ValueError:
            continue
        if isinstance(known, dict) and isinstance(known.get("at"), int | float):
            found.append(known)
    return found
