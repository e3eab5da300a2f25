"""The messages: ordinary Celery protocol 2, built here because building them one by one in Celery costs 20 times more.

A packet's body carries run ids and nothing of the payload. Only telemetry (`durable=False`) travels with its payload.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, Final

import uuid_utils
from pydantic_core import to_json

from cgk_tasks.runs.models import DEFAULT_PRIORITY, Dispatch, NewRun, new_run_id

PACKET_HEADER = "cgk"
"""Marks a packet; its value is when it was dispatched, in seconds since 1970."""

DISPATCHED_HEADER = "cgk_dispatched_at"
"""The same by PostgreSQL's clock, where the dispatcher knows it."""

TENANT_HEADER = "tenant"

ANSWER_HEADER = "cgk_answer_to"
"""Whom to call when the message's run has come to something: a sender that waits for it."""

answer_to: ContextVar[str | None] = ContextVar("cgk_answer_to", default=None)
"""The same, of what is sent now."""

_LATEST = 253402300799.0
"""The end of the year 9999: what Python and PostgreSQL both have a date for."""

_PRIORITY_STEPS = (9, 6, 3, 0)
_STEP_SEPARATOR = "\x06\x16"
_HOST = socket.gethostname()


@dataclass(frozen=True)
class Message:
    id: str
    queue: str
    priority: int
    headers: Mapping[str, Any]
    body: str

    @cached_property
    def redis_text(self) -> bytes:
        """As Kombu's Redis transport reads it."""
        return redis_text(self)


def packet_message(packet: Sequence[Dispatch | NewRun]) -> Message:
    """The message of a packet. A single run's message has the run's id, so that Flower and AsyncResult agree."""
    first = packet[0]
    message_id = first.id if len(packet) == 1 else str(uuid_utils.uuid4())
    tenants = {run.tenant_id for run in packet}
    tenant = first.tenant_id if len(tenants) == 1 else f"{len(tenants)} tenants"
    summary = f"(tenant={tenant})" if len(packet) == 1 else f"(tenant={tenant}, {len(packet)} runs)"
    headers = _headers(first.event, message_id, tenant, summary) | {PACKET_HEADER: time.time()}
    if first.dispatched_at is not None:
        headers[DISPATCHED_HEADER] = min(run.dispatched_at or first.dispatched_at for run in packet).timestamp()
    if (asked := answer_to.get()) is not None:
        headers[ANSWER_HEADER] = asked
    ids = ",".join(f'"{run.id}"' for run in packet)
    body = f'[[[{ids}]], {{}}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]'
    return Message(message_id, first.queue, first.priority, headers, body)


def payload_message(event: str, tenant_id: str, payload: str, queue: str, priority: int = DEFAULT_PRIORITY) -> Message:
    """The message of telemetry: the payload (a JSON object) as keyword arguments, and no run."""
    message_id = new_run_id()
    headers = _headers(event, message_id, tenant_id, f"(tenant={tenant_id})")
    body = f'[[], {payload}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]'
    return Message(message_id, queue, priority, headers, body)


def _headers(event: str, message_id: str, tenant: str, summary: str) -> dict[str, Any]:
    return {
        "lang": "py", "task": event, "id": message_id, "root_id": message_id, "parent_id": None, "group": None,
        "group_index": None, "retries": 0, "eta": None, "expires": None, "timelimit": [None, None], "shadow": None,
        "argsrepr": summary, "kwargsrepr": "{}", "origin": f"gen{os.getpid()}@{_HOST}", "ignore_result": True,
        "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {}, TENANT_HEADER: tenant,
    }  # fmt: skip


@cache
def redis_priority(priority: int) -> int:
    """Our 9 is the most urgent; in Redis the most urgent is Celery's step 0."""
    return next(step for step in _PRIORITY_STEPS if step <= 9 - priority)


def redis_key(queue: str, priority: int, prefix: str = "") -> str:
    """The list in Redis that Celery reads for this queue and priority."""
    step = redis_priority(priority)
    return f"{prefix}{queue}{_STEP_SEPARATOR}{step}" if step else f"{prefix}{queue}"


def redis_text(message: Message) -> bytes:
    """The message as Kombu's Redis transport reads it."""
    return to_json(
        {
            "body": base64.b64encode(message.body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": message.headers,
            "properties": {
                "correlation_id": message.id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": message.queue},
                "priority": redis_priority(message.priority),
                "body_encoding": "base64",
                "delivery_tag": str(uuid_utils.uuid4()),
            },
        }
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits in the broker. dispatched_at: by PostgreSQL's clock, None if it does not say."""

    dispatched_at: datetime | None
    run_ids: tuple[str, ...]


NOTHING_WAITS: Final = Waiting(None, ())


def waiting_of(text: str | bytes) -> Waiting:
    """What a waiting message in Redis says of itself; nothing, if it is not ours."""
    try:
        envelope = json.loads(text)
        at = float(envelope["headers"].get(DISPATCHED_HEADER) or 0.0)
        (listed, *_), *_ = json.loads(base64.b64decode(envelope["body"]))
        ids = tuple(str(uuid.UUID(one)) for one in listed)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return Waiting(None, ())
    return Waiting(datetime.fromtimestamp(at, UTC) if 0.0 < at < _LATEST else None, ids)
