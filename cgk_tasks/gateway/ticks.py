"""`/v1/tick`: a clock outside makes the schedules tick, where no beat runs. QStash signs its calls, Vercel Cron and
others have a secret.
"""

from __future__ import annotations

import time
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, RequestRefusedError
from cgk_tasks.gateway import problems
from cgk_tasks.gateway.bodies import read_any
from cgk_tasks.gateway.endpoint import HEADERS, answer
from cgk_tasks.gateway.webhooks import signed_request
from cgk_tasks.inbound import qstash
from cgk_tasks.inbound.schemes import SCHEMES
from cgk_tasks.inbound.signed_request import SignedRequest
from cgk_tasks.schedules import one_look
from cgk_tasks.schedules.fan_out import Tick

log = structlog.get_logger("cgk_tasks.gateway")

TOKEN_SECONDS: Final = 300.0
"""How long a signature of QStash counts, at most."""

SHORTEST_SECRET: Final = 16


async def tick(request: Request) -> Response:
    """POST and GET /v1/tick: every tick that is due is made, once."""
    begun = time.monotonic()
    try:
        if request.method == "HEAD":
            raise RequestRefusedError("This path takes GET and POST.", "METHOD_NOT_ALLOWED", 405)
        _authenticate(signed_request(request, await read_any(request)))
        made = answer({"ticks": [_shown(one) for one in await run_in_threadpool(one_look.look)]})
    except ClientDisconnect:
        return Response(status_code=400)  # which nobody reads
    except Exception as exc:  # noqa: BLE001 - whatever it is has an answer
        made = problems.response(exc)
    made.headers.update(HEADERS)
    log.info("tick", status=made.status_code, seconds=round(time.monotonic() - begun, 4))
    return made


def _authenticate(request: SignedRequest) -> None:
    """Raises RequestRefusedError: 401; 404 where no secret is set. Raises ConfigurationError for one too short."""
    settings = get_settings()
    secrets = [one.get_secret_value() for one in settings.cron_secret]
    if any(len(one) < SHORTEST_SECRET for one in secrets):
        raise ConfigurationError(
            f"CRON_SECRET has less than {SHORTEST_SECRET} characters.", hint="Make one: openssl rand -hex 32"
        )
    if not secrets and not settings.qstash_keys:
        raise RequestRefusedError("There is nothing at this path.", "NOT_FOUND", 404)
    if settings.qstash_keys and (qstash.HEADER.lower() in request.headers or not secrets):
        qstash.verify(request, settings.qstash_keys, TOKEN_SECONDS)
    else:
        SCHEMES["bearer"].verify(request, secrets, TOKEN_SECONDS)


def _shown(one: Tick) -> dict[str, object]:
    return {"schedule": one.schedule, "scheduledFor": one.scheduled_for, "runs": one.runs}
