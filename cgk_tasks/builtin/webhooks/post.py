"""One signed POST, within a time limit, to an address that was checked."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from ssl import SSLContext
from typing import Any, Final

import httpx
from standardwebhooks import Webhook

from cgk_tasks.builtin.webhooks.addresses import check_url, host_of, resolve
from cgk_tasks.client.httpx_logging import unlogged_requests
from cgk_tasks.config import get_settings
from cgk_tasks.errors import AddressRefusedError
from cgk_tasks.jobs.classification import classify_error

EXCERPT_BYTES = 1000
_GONE = 410
_ADDRESS: Final = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b|[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}[0-9a-f.]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered. `error`: why the attempt failed, None if it did not. `status`: None without an answer.

    `retry_after`: the least time to wait, in seconds, if the endpoint named one. `is_ours`: nothing was sent, for a
    reason on this side, which does not count against the endpoint.
    """

    seconds: float
    status: int | None = None
    excerpt: str | None = None
    error: str | None = None
    retry_after: float | None = None
    is_ours: bool = False

    @property
    def is_gone(self) -> bool:
        """The receiver wants nothing any more."""
        return self.status == _GONE


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted: `body` is the JSON text; `webhook_id` the same in every attempt."""

    webhook_id: str
    body: bytes


def message(webhook_id: str, topic: str, at: datetime, data: Any) -> Message:
    """A message in the form that Standard Webhooks recommends. The same arguments give the same bytes."""
    content = {"type": topic, "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z"), "data": data}
    return Message(webhook_id, json.dumps(content, separators=(",", ":")).encode())


def new_client() -> httpx.AsyncClient:
    """A client that follows no redirect and knows no proxy: both could lead past the check of the address."""
    return httpx.AsyncClient(
        verify=_tls(), follow_redirects=False, trust_env=False, timeout=get_settings().webhook_timeout_seconds
    )


@cache
def _tls() -> SSLContext:
    return httpx.create_ssl_context()  # SSL_CERT_FILE is read here


async def post(client: httpx.AsyncClient, url: str, secrets: Sequence[str], message: Message) -> Answer:
    """Sign a message with each secret, and post it. Never raises for what the network or the receiver does."""
    settings = get_settings()
    limit = settings.webhook_timeout_seconds
    begun = time.monotonic()
    try:
        with unlogged_requests():  # a webhook's URL may hold a token
            async with asyncio.timeout(limit):
                response, excerpt = await _exchange(client, url, secrets, message, settings.webhook_private_hosts)
    except (TimeoutError, httpx.TimeoutException):
        return Answer(time.monotonic() - begun, error=f"no complete answer within {limit:g} s")
    except AddressRefusedError as exc:
        return Answer(time.monotonic() - begun, error=str(exc))
    except (httpx.HTTPError, OSError) as exc:
        return Answer(time.monotonic() - begun, error=_told(exc))
    seconds = time.monotonic() - begun
    if response.is_success:
        return Answer(seconds, response.status_code, excerpt)
    problem = f"it answered {response.status_code}"
    if response.is_redirect:
        problem += "; redirects are not followed, register the final URL"
    waits = classify_error(httpx.HTTPStatusError("", request=response.request, response=response)).retry_after
    retry_after = waits if "retry-after" in response.headers else None
    return Answer(seconds, response.status_code, excerpt, problem, retry_after)


def _told(exc: Exception) -> str:
    """What went wrong, for the endpoint's owner: without addresses, of which some are the platform's own."""
    text = _ADDRESS.sub("the address", str(exc)).replace("\0", "").encode(errors="replace").decode()
    return f"{classify_error(exc).code}: {text}"[:EXCERPT_BYTES]


async def _exchange(
    client: httpx.AsyncClient, url: str, secrets: Sequence[str], message: Message, private_hosts: Collection[str]
) -> tuple[httpx.Response, str]:
    target = check_url(url, private_hosts)
    addresses = await resolve(target, private_hosts)
    for position, address in enumerate(addresses):
        request = client.build_request(
            "POST",
            target.copy_with(host=address),
            content=message.body,
            headers=_headers(target, secrets, message),
            # The certificate must be that of the name, although the connection is made to the checked address.
            extensions={"sni_hostname": host_of(target), "timeout": client.timeout.as_dict()},
        )
        try:
            response = await client.send(request, stream=True)
        except httpx.ConnectError:
            if position + 1 == len(addresses):
                raise
            continue
        try:
            return response, await _excerpt(response)
        finally:
            await response.aclose()
    raise OSError("the name has no address")


def _headers(target: httpx.URL, secrets: Sequence[str], message: Message) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "Host": target.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "cgk-tasks",
        "webhook-id": message.webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(message.webhook_id, now, message.body.decode()) for secret in secrets
        ),
    }


async def _excerpt(response: httpx.Response) -> str:
    """The beginning of the body; the rest is not read, however long it is."""
    read = b""
    async for chunk in response.aiter_raw():
        read += chunk
        if len(read) >= EXCERPT_BYTES:
            break
    return read[:EXCERPT_BYTES].decode(errors="replace").replace("\0", "")
