"""Reading the bodies of requests: no more than they may have, no longer than they may take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
from starlette.requests import Request

from cgk_tasks.config import get_settings
from cgk_tasks.errors import RequestRefusedError

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


def media_type(request: Request) -> str:
    """The type of the body, without its parameters. Raises RequestRefusedError, 415, for what cannot be read."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if charset not in {"", "utf-8"} or request.headers.get("content-encoding", "identity") != "identity":
        raise _not_read(request, "as UTF-8, and not compressed")
    return kind.strip().lower()


async def read_json(request: Request) -> bytes:
    """The body of a request that must be JSON, not parsed. Raises RequestRefusedError: 408, 413, 415."""
    if media_type(request) != JSON:
        raise _not_read(request, f"as {JSON}")
    return await _whole(request)


async def read_optional_json(request: Request) -> bytes:
    """The same, where a request may have none: b"" then."""
    body = await _whole(request)
    if body and media_type(request) != JSON:
        raise _not_read(request, f"as {JSON}")
    return body


async def read_any(request: Request) -> bytes:
    """The body as it came, whatever it is: signatures are of its bytes. Raises RequestRefusedError: 408, 413, 415."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise _not_read(request, "not compressed")
    return await _whole(request)


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises RequestRefusedError, 408, where it does not go on."""
    seconds = get_settings().gateway_body_seconds
    stream: Any = request.stream().__aiter__()
    while True:
        try:
            with anyio.fail_after(seconds):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            text = f"The body did not go on for {seconds:g} s."
            raise RequestRefusedError(text, "REQUEST_TIMEOUT", 408) from None
        if piece:
            yield piece


def too_large(what: str, limit: int) -> RequestRefusedError:
    return RequestRefusedError(
        f"{what} has more than {limit:,} bytes.",
        "REQUEST_TOO_LARGE",
        413,
        hint=f"Send less at once: many events go as {NDJSON}, line by line.",
    )


async def _whole(request: Request) -> bytes:
    limit = get_settings().gateway_max_body_bytes
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and len(said) < 20 and int(said) > limit:
        raise too_large("The body", limit)
    gathered = bytearray()
    async for piece in pieces(request):
        gathered += piece
        if len(gathered) > limit:
            raise too_large("The body", limit)
    return bytes(gathered)


def _not_read(request: Request, how: str) -> RequestRefusedError:
    said = request.headers.get("content-type", "")[:100]
    return RequestRefusedError(
        f"A body of the type {said!r} cannot be read here.", "UNSUPPORTED_MEDIA_TYPE", 415, hint=f"Send it {how}."
    )
