"""The header Idempotency-Key: a request that comes again is answered as the first one was, and does nothing more.

That a request is in progress, and what it was answered, is on record, so that it holds over all gateways. Sends have
the key too (`idempotency_key`), so a send is not made twice either where a gateway dies between it and its answer.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import RequestRefusedError
from cgk_tasks.gateway.endpoint import Call, bad_request
from cgk_tasks.gateway.json_text import to_text
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, execute, fetch, statements

SQL = statements("gateway")
log = structlog.get_logger("cgk_tasks.gateway")

Answer = tuple[Any, int]
"""A value, and the status that it is answered with."""

HEADER: Final = "Idempotency-Key"
LONGEST: Final = 255
LOCK_SECONDS: Final = 60.0
"""For so long a request may be in progress. After that its gateway is taken for dead, and it may be made again."""

_FORGET_SECONDS: Final = 60.0
_FORGET_AT_ONCE: Final = 1_000


def key_of(call: Call) -> str | None:
    """The key of a request. Quotes around it, which the draft of the header asks for, are not part of it. Raises
    RequestRefusedError, 400.
    """
    given = call.request.headers.getlist(HEADER)
    if not given:
        return None
    key = given[0]
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(given) > 1 or not 0 < len(key) <= LONGEST or not (key.isascii() and key.isprintable()):
        raise bad_request(f"{HEADER} must be one text of 1 to {LONGEST} printable ASCII characters.")
    return key


def once(call: Call, key: str | None, body: Any, action: Callable[[], Answer]) -> Answer:
    """What the action returns; or what it returned when it was called with this key before.

    body: what the request asked for, parsed. Raises RequestRefusedError, 409, where the key belongs to another request,
    or to one that is in progress; and what the action raises, which frees the key.
    """
    if key is None:
        return action()
    _forget_old()
    held = {"tenant_id": call.tenant.id, "key": key, "holder": str(uuid4())}
    fingerprint = _fingerprint(call, body)
    values = held | {
        "fingerprint": fingerprint, "lock_seconds": LOCK_SECONDS, "keep_seconds": get_settings().idempotency_seconds,
    }  # fmt: skip
    earlier = _begun_before(values)
    if earlier is not None:
        return _earlier(earlier, fingerprint)
    try:
        value, status = action()
    except BaseException:
        with autocommit() as connection:
            execute(connection, SQL["drop_request"], held)
        raise
    with autocommit() as connection:
        execute(connection, SQL["end_request"], held | {"status": status, "answer": to_text(value).decode()})
    return value, status


def _begun_before(values: dict[str, Any]) -> dict[str, Any] | None:
    """The request that has the key; None if it is the caller's now."""
    with autocommit() as connection:
        while not fetch(connection, SQL["begin_request"], values):
            if rows := fetch(connection, SQL["find_request"], values):
                return rows[0]  # else it has failed meanwhile, and the key is free
    return None


def _earlier(row: dict[str, Any], fingerprint: bytes) -> Answer:
    if bytes(row["fingerprint"]) != fingerprint:
        raise RequestRefusedError(
            f"This {HEADER} belongs to another request.", "IDEMPOTENCY_CONFLICT", 409,
            hint="Send the same request again, or use a new key.",
        )  # fmt: skip
    if row["status"] is None:
        raise RequestRefusedError(
            f"The request with this {HEADER} is in progress.", "REQUEST_IN_PROGRESS", 409, retry_after=1.0,
            hint="Ask again for its answer.",
        )  # fmt: skip
    return json.loads(row["answer"]), row["status"]


def _fingerprint(call: Call, body: Any) -> bytes:
    """Of all that a request asks for: not of where an application has mounted the API, nor of the order of names in
    objects.
    """
    scope = call.request.scope
    path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
    asked = [call.request.method, path, sorted(call.request.query_params.multi_items()), body]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()


@dataclass
class _Forgetting:
    again_at: float = field(default_factory=lambda: time.monotonic() + _FORGET_SECONDS)


_FORGETTING = Part(_Forgetting)


def _forget_old() -> None:
    """Once a minute in each process."""
    state = _FORGETTING.current()
    if time.monotonic() >= state.again_at:
        state.again_at = time.monotonic() + _FORGET_SECONDS
        with autocommit() as connection:
            execute(connection, SQL["forget_requests"], {"limit": _FORGET_AT_ONCE})
