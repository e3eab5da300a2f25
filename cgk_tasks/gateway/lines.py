"""Any number of events in one request: NDJSON, an item a line, sent chunk by chunk as they come.

Each chunk is sent whole or not at all, and has a line in the answer. A wrong item refuses its chunk; the next chunks
are sent all the same. Memory holds one chunk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cgk_tasks.client import SendItem, get_job_client
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, RequestRefusedError
from cgk_tasks.gateway import problems
from cgk_tasks.gateway.bodies import NDJSON, pieces, too_large
from cgk_tasks.gateway.endpoint import Call
from cgk_tasks.gateway.json_text import parsed, to_text

log = structlog.get_logger("cgk_tasks.gateway")

CHUNK_LINES: Final = 1_000
_LONGEST_PAUSE: Final = 60.0

ItemOf = Callable[[Call, Any, str | None], SendItem]
"""An item out of a line that was parsed, and its idempotency key."""


@dataclass
class _Chunk:
    """Lines that are sent together. first: the number of the first, counted from 0."""

    first: int
    lines: list[bytes] = field(default_factory=list)
    size: int = 0


class _Lines(Response):
    """An answer whose lines are made while the request is still read. Starlette's own streaming answer cannot be used:
    it reads the rest of the request itself, to see whether the client is gone.
    """

    def __init__(self, made: AsyncIterator[bytes]) -> None:
        self._made = made
        super().__init__(None, 200, None, NDJSON)
        del self.headers["content-length"]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for line in self._made:
                await send({"type": "http.response.body", "body": line, "more_body": True})
        except (ClientDisconnect, OSError):
            return  # what was answered has been sent
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def send_lines(call: Call, item_of: ItemOf, key: str | None) -> Response:
    """The answer to a request with NDJSON. key: each line has it, with its number, as its idempotency key."""
    return _Lines(_answers(call, item_of, key))


async def _answers(call: Call, item_of: ItemOf, key: str | None) -> AsyncIterator[bytes]:
    reached: dict[str, int] = {}
    try:
        async for chunk in _chunks(call):
            reached = {"firstLine": chunk.first, "lines": len(chunk.lines), "sent": 0}
            now = await _admitted(call)
            yield to_text(await now.do(_send, now, chunk, item_of, key)) + b"\n"
            reached = {}
    except ClientDisconnect:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever it is has an answer; what the lines before say was sent
        yield to_text(reached | {"problem": problems.problem(problems.as_error(exc))}) + b"\n"


async def _admitted(call: Call) -> Call:
    """The request as it is admitted now: each chunk counts as one. One too many waits, and the client with it."""
    while True:
        try:
            now = await run_in_threadpool(call.again)
        except RequestRefusedError as exc:
            if exc.retry_after is None:
                raise
            await anyio.sleep(min(exc.retry_after, _LONGEST_PAUSE))
        else:
            now.refuse_suspended()
            return now


async def _chunks(call: Call) -> AsyncIterator[_Chunk]:
    """Raises RequestRefusedError, 413, for a line that is larger than a chunk may be."""
    limit = get_settings().gateway_max_body_bytes
    chunk, rest = _Chunk(0), bytearray()
    async for piece in pieces(call.request):
        rest += piece
        *lines, last = bytes(rest).split(b"\n") if b"\n" in piece else [bytes(rest)]
        if len(last) > limit:
            raise too_large("A line", limit)
        rest = bytearray(last)
        for line in lines:
            if chunk.lines and (len(chunk.lines) >= CHUNK_LINES or chunk.size + len(line) > limit):
                yield chunk
                chunk = _Chunk(chunk.first + len(chunk.lines))
            chunk.lines.append(line)
            chunk.size += len(line)
    if rest.strip():
        chunk.lines.append(bytes(rest))
    if chunk.lines:
        yield chunk


def _send(call: Call, chunk: _Chunk, item_of: ItemOf, key: str | None) -> dict[str, Any]:
    """What the answer says of a chunk. Raises what is no item's fault."""
    said: dict[str, Any] = {"firstLine": chunk.first, "lines": len(chunk.lines)}
    positions: list[int] = []
    items: list[SendItem] = []
    try:
        for position, line in enumerate(chunk.lines):
            if not line.strip():
                continue
            try:
                items.append(item_of(call, parsed(line), None if key is None else f"{key}/{chunk.first + position}"))
            except CgkTasksError as exc:
                exc.item = len(positions)
                positions.append(position)
                raise
            positions.append(position)
        handles = get_job_client().send_batch(items)
    except CgkTasksError as exc:
        if exc.item is None:
            raise
        exc.item = chunk.first + positions[exc.item]
        return said | {"sent": 0, "problem": problems.problem(exc)}
    runs = [{"id": handle.id, "outcome": handle.outcome} for handle in handles]
    return said | {"sent": len(runs), "runs": runs}
