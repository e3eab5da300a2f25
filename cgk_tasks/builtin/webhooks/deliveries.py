"""Delivering one message to the endpoints that want it: claim, post, note the answer."""

from __future__ import annotations

import asyncio
import random
import traceback
from dataclasses import dataclass
from typing import Any

import structlog
from httpx import AsyncClient

from cgk_tasks.builtin.webhooks.endpoints import SQL, Target
from cgk_tasks.builtin.webhooks.post import Answer, Message, message, new_client, post
from cgk_tasks.config import get_settings
from cgk_tasks.errors import SecretUnreadableError
from cgk_tasks.jobs.event_loop import run_coroutine
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import Row, autocommit, execute, fetch

log = structlog.get_logger("cgk_tasks.webhooks")

_AT_ONCE = 20
_MOST_AT_A_TIME = 1000


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message on record. `id` is the same for every endpoint and attempt."""

    id: str
    topic: str
    content: Message


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a message's deliveries are. `seconds`: until the next waiting one is due, None if none waits."""

    delivered: int
    failed: int
    waiting: int
    seconds: float | None


def keep_message(tenant_id: str, event_id: str, *, source: str, topic: str | None, body: Any) -> None:
    """Put a message on record. The first who brings it decides what is in it."""
    values = {
        "id": new_run_id(), "tenant_id": tenant_id, "event_id": event_id, "source": source, "topic": topic,
        "body": encode(body),
    }  # fmt: skip
    with autocommit() as connection:
        execute(connection, SQL["keep_message"], values)


def find_message(tenant_id: str, event_id: str) -> KeptMessage | None:
    with autocommit() as connection:
        rows = fetch(connection, SQL["find_message"], {"tenant_id": tenant_id, "event_id": event_id})
    if not rows:
        return None
    row = rows[0]
    topic = row["topic"] or row["source"]
    content = message(f"msg_{row['id'].replace('-', '')}", topic, row["received_at"], row["body"])
    return KeptMessage(row["id"], topic, content)


def open_deliveries(tenant_id: str, kept: KeptMessage) -> None:
    """A delivery for each endpoint that wants the message's topic now; safe to repeat."""
    parts = kept.topic.split(".")
    patterns = ["*", kept.topic, *(f"{'.'.join(parts[:end])}.*" for end in range(1, len(parts)))]
    values = {"message_id": kept.id, "tenant_id": tenant_id, "patterns": patterns}
    with autocommit() as connection:
        execute(connection, SQL["open_deliveries"], values)


def reopen_deliveries(kept: KeptMessage) -> None:
    """Try again what was given up."""
    with autocommit() as connection:
        execute(connection, SQL["reopen_deliveries"], {"message_id": kept.id})


def attempt_due(kept: KeptMessage) -> int:
    """Attempt the deliveries that are due, several at once. Returns how many there were."""
    # Longer than any attempt takes: so long nobody else makes the same one.
    lease_seconds = get_settings().webhook_timeout_seconds + 5
    values = {"message_id": kept.id, "lease_seconds": lease_seconds, "limit": _AT_ONCE}
    total = 0
    while True:
        with autocommit() as connection:
            due = fetch(connection, SQL["claim_deliveries"], values)
        if not due:
            return total
        run_coroutine(_attempt_all(kept, due))
        total += len(due)


async def _attempt_all(kept: KeptMessage, due: list[Row]) -> None:
    async def attempt(delivery: Row) -> None:
        names = ("tenant_id", "endpoint_id", "url", "secret", "old_secret")
        answer = await post_signed(client, Target.signing_with(*(delivery[name] for name in names)), kept.content)
        # At once, not when the slowest has ended: what was delivered must be on record if this process dies.
        await asyncio.to_thread(_note, delivery, answer)

    async with new_client() as client:
        # Each to its end: if one cannot be noted, the others that are under way are.
        ends = await asyncio.gather(*(attempt(delivery) for delivery in due), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def post_signed(client: AsyncClient, target: Target, content: Message) -> Answer:
    """Sign and post a message. Never raises: one endpoint's fault, of whatever kind, is its own."""
    try:
        secrets = target.secrets()
    except SecretUnreadableError as exc:
        log.error("webhook_not_signed", endpoint=target.endpoint_id, code=exc.code, reason=str(exc))  # noqa: TRY400
        return Answer(0.0, error=str(exc), is_ours=True)
    try:
        return await post(client, target.url, secrets, content)
    except Exception as exc:  # noqa: BLE001 - in the loop's thread, where no time limit and no cancellation arrives
        # Without the exception's text, which may quote the URL or an address.
        where = traceback.extract_tb(exc.__traceback__)[-1]
        kind = type(exc).__name__
        log.error("webhook_not_posted", endpoint=target.endpoint_id, type=kind, at=f"{where.filename}:{where.lineno}")  # noqa: TRY400
        return Answer(0.0, error=f"it could not be posted ({kind}); the worker's log says where", is_ours=True)


def _note(delivery: Row, answer: Answer) -> None:
    settings = get_settings()
    values = {
        "message_id": delivery["message_id"], "endpoint_id": delivery["endpoint_id"], "attempts": delivery["attempts"],
        "seconds": answer.seconds, "status": answer.status, "excerpt": answer.excerpt, "error": answer.error,
    }  # fmt: skip
    with autocommit() as connection:
        if answer.error is None:
            execute(connection, SQL["note_delivered"], values)
            return
        delay_seconds = _delay(delivery["attempts"], answer, settings.webhook_retry_seconds)
        if answer.is_ours:
            execute(connection, SQL["note_not_attempted"], values | {"delay_seconds": delay_seconds})
            return
        why = {
            "delay_seconds": delay_seconds,
            "off_reason": "it answered 410 Gone" if answer.is_gone else None,
            "give_up_seconds": settings.webhook_give_up_seconds,
            "give_up_reason": f"it only failed for {settings.webhook_give_up_seconds / 3600:g} h",
        }
        endpoints = fetch(connection, SQL["note_not_delivered"], {**values, **why})
        off = next((row["switched_off_reason"] for row in endpoints), None)
        if off is not None:
            execute(connection, SQL["fail_waiting_of_endpoint"], {"endpoint_id": delivery["endpoint_id"]})
            log.warning("webhook_endpoint_disabled", endpoint=delivery["endpoint_id"], reason=off)


def _delay(attempts: int, answer: Answer, delays: tuple[float, ...]) -> float | None:
    """Seconds to the next attempt after so many; None to give up. Spread, so that what failed together comes apart."""
    if attempts > len(delays):
        return None
    return max(delays[attempts - 1] * random.uniform(0.9, 1.1), answer.retry_after or 0.0)  # noqa: S311 - no secret


def progress(kept: KeptMessage) -> Progress:
    with autocommit() as connection:
        return Progress(**fetch(connection, SQL["progress"], {"message_id": kept.id})[0])


def forget_messages(tenant_id: str, older_than_days: int) -> int:
    """Delete a tenant's messages, with their deliveries, that are so old and have nothing waiting."""
    values = {"tenant_id": tenant_id, "days": older_than_days, "limit": _MOST_AT_A_TIME}
    total = 0
    while True:
        with autocommit() as connection:
            gone = execute(connection, SQL["forget_messages"], values)
        total += gone
        if gone < _MOST_AT_A_TIME:
            return total
