"""Browsers' tokens by HTTP: a program with a key has one made, and gives it to a page."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from cgk_tasks.client import get_run
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.gateway.bodies import read_json
from cgk_tasks.gateway.browser_tokens import USUAL_SECONDS, issue
from cgk_tasks.gateway.endpoint import Call, answer, bad_request
from cgk_tasks.gateway.json_text import parsed
from cgk_tasks.gateway.runs import is_run_id

_KNOWN: Final = frozenset({"runId", "allRuns", "expires"})


async def make_token(call: Call) -> Response:
    """POST /v1/tokens."""
    call.query()
    body = await read_json(call.request)
    return answer(await call.do(_made, call, body), 201)


def _made(call: Call, body: bytes) -> dict[str, Any]:
    asked = parsed(body)
    if not isinstance(asked, dict) or asked.keys() - _KNOWN or ("runId" in asked) is ("allRuns" in asked):
        raise bad_request('The body must be an object like {"runId": "…", "expires": 600}, or {"allRuns": true}.')
    run_id, expires = asked.get("runId"), asked.get("expires", USUAL_SECONDS)
    if "allRuns" in asked and asked["allRuns"] is not True:
        raise bad_request("allRuns must be true.", "Name a run as runId for a token of that run.")
    if "runId" in asked:
        run_id = _known(run_id)
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise bad_request("expires must be a number of seconds.")
    made = issue(call.tenant.id, run_id, all_runs=run_id is None, expires=expires, key=call.key.prefix)
    return {"token": made.token, "runId": made.run_id, "expiresAt": made.expires_at}


def _known(run_id: object) -> str:
    """The id of a run of the tenant. Raises UnknownRunError."""
    if not is_run_id(run_id):
        raise UnknownRunError(str(run_id)[:50])
    return get_run(str(run_id).lower()).id
