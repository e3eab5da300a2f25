"""Runs by HTTP: look at them, wait for them, cancel, replay and signal them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import urlencode

import anyio
from starlette.responses import Response

from cgk_tasks.client import cancel_run, get_run, replay_run, signal_run
from cgk_tasks.dashboard.data.run_search import Key, ListedRun, RunFilter, as_state, find_runs
from cgk_tasks.errors import ConfigurationError, UnknownRunError
from cgk_tasks.gateway import idempotency
from cgk_tasks.gateway.bodies import read_optional_json
from cgk_tasks.gateway.endpoint import Call, answer, bad_request, moment_of, seconds_of, whole_number
from cgk_tasks.gateway.idempotency import Answer
from cgk_tasks.gateway.json_text import parsed
from cgk_tasks.gateway.sending import shown
from cgk_tasks.runs.logs import lines
from cgk_tasks.runs.models import RunStatus

LONGEST_WAIT_SECONDS: Final = 60.0
MOST_LISTED: Final = 200
FILTERS: Final = ("state", "event", "job", "errorCode", "text", "since", "until", "limit", "after")

_FIRST_LOOK_SECONDS: Final = 0.02
_SLOWEST_LOOK_SECONDS: Final = 0.5
_LISTED: Final = 50
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OF_AN_ERROR: Final = ("attempt", "at", "kind", "code", "type", "message")
"""What is told of an attempt's error. The traceback is the operator's."""


async def list_runs(call: Call) -> Response:
    """GET /v1/runs: the last sent first, a page at a time."""
    given = call.query(*FILTERS)
    wanted, before = _filter(call, given), _after(given)
    page = await call.do(find_runs, wanted, before, whole_number(given, "limit", _LISTED, MOST_LISTED))
    found = {"runs": [_line(run) for run in page.runs], "next": None if page.next is None else str(page.next)}
    headers = {}
    if page.next is not None:
        path = f"{call.request.scope.get('root_path', '')}/v1/runs"
        headers["Link"] = f'<{path}?{urlencode(given | {"after": str(page.next)})}>; rel="next"'
    return answer(found, headers=headers)


async def show_run(call: Call) -> Response:
    """GET /v1/runs/{id}: the run as it stands; with `wait`, once it has ended or the time is over."""
    return answer(as_wire(await _awaited(call)))


async def show_result(call: Call) -> Response:
    """GET /v1/runs/{id}/result: 200 once the run has ended, 202 before."""
    run = await _awaited(call)
    wire = as_wire(run)
    found = {name: wire[name] for name in ("id", "state", "result", "errorCode", "errors") if name in wire}
    return answer(found, 200 if run.is_closed else 202)


async def show_logs(call: Call) -> Response:
    """GET /v1/runs/{id}/logs."""
    call.query()
    run_id = run_id_in_path(call)
    await call.do(get_run, run_id)
    found = await call.do(lines, run_id)
    return answer(
        {
            "lines": [
                {"at": line.at, "attempt": line.attempt, "level": line.level, "logger": line.logger,
                 "message": line.message, "fields": line.fields}
                for line in found
            ]
        }
    )  # fmt: skip


async def cancel(call: Call) -> Response:
    """POST /v1/runs/{id}/cancel: 200 if it has ended, 202 if its worker is told."""
    call.query()
    await read_optional_json(call.request)
    run = await call.do(cancel_run, run_id_in_path(call))
    return answer(as_wire(run), 200 if run.is_closed else 202)


async def replay(call: Call) -> Response:
    """POST /v1/runs/{id}/replay: a new run; with {"fromStep": name}, of a workflow, from there."""
    call.query()
    key, run_id = idempotency.key_of(call), run_id_in_path(call)
    body = await read_optional_json(call.request)
    return answer(*await call.do(_replay, call, run_id, body, key))


def _replay(call: Call, run_id: str, body: bytes, key: str | None) -> Answer:
    call.refuse_suspended()
    asked = parsed(body) if body else {}
    if not isinstance(asked, dict) or asked.keys() - {"fromStep"}:
        raise bad_request('The body must be an object like {"fromStep": "charge"}, or left out.')
    step = asked.get("fromStep")
    if step is not None and (not isinstance(step, str) or "\0" in step):
        raise bad_request("fromStep must be the name of a step.")
    return idempotency.once(call, key, asked, lambda: (shown(replay_run(run_id, from_step=step)), 202))


async def signal(call: Call) -> Response:
    """POST /v1/runs/{id}/signals/{name}: the body is the payload. With an Idempotency-Key, once."""
    call.query()
    key, run_id, name = idempotency.key_of(call), run_id_in_path(call), call.path("name")
    body = await read_optional_json(call.request)
    return answer(*await call.do(_signal, call, run_id, name, body, key))


def _signal(call: Call, run_id: str, name: str, body: bytes, key: str | None) -> Answer:
    payload = parsed(body) if body else None

    def send() -> Answer:
        try:
            return {"delivered": signal_run(run_id, name, payload, key=key)}, 202
        except ConfigurationError as exc:  # of the name
            raise bad_request(exc.text, exc.hint) from None

    return idempotency.once(call, key, payload, send)


async def _awaited(call: Call) -> RunStatus:
    """The run, which is looked at until it has ended or the time is over, or the client is gone."""
    give_up = time.monotonic() + seconds_of(call.query("wait"), "wait", LONGEST_WAIT_SECONDS)
    run_id, pause = run_id_in_path(call), _FIRST_LOOK_SECONDS
    while not (run := await call.do(get_run, run_id)).is_closed:
        left = give_up - time.monotonic()
        if left <= 0 or await call.request.is_disconnected():
            break
        await anyio.sleep(min(pause, left))
        pause = min(pause * 1.5, _SLOWEST_LOOK_SECONDS)
    return run


def is_run_id(text: object) -> bool:
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def run_id_in_path(call: Call) -> str:
    """Raises UnknownRunError for what is none."""
    run_id = call.path("id")
    if not is_run_id(run_id):
        raise UnknownRunError(run_id[:50])
    return run_id.lower()


def _filter(call: Call, given: Mapping[str, str]) -> RunFilter:
    state = as_state(given.get("state", ""))
    if state is None and given.get("state"):
        raise bad_request(f"There is no state {given['state'][:50]!r}.")
    times: dict[str, Any] = {name: moment_of(name, given[name]) for name in ("since", "until") if name in given}
    return RunFilter(
        tenant_id=call.tenant.id, event=given.get("event", ""), job=given.get("job", ""), state=state,
        error_code=given.get("errorCode", ""), text=given.get("text", ""), **times,
    )  # fmt: skip


def _after(given: Mapping[str, str]) -> Key | None:
    if "after" not in given:
        return None
    key = Key.parse(given["after"])
    if key is None or key.sent_at.timestamp() < 0:
        raise bad_request("The parameter after must be what the page before has as next.")
    return key


def _line(run: ListedRun) -> dict[str, Any]:
    """A run of a list: without payload and result, with what can be searched."""
    return {
        "id": run.id, "tenantId": run.tenant_id, "event": run.event, "job": run.job, "state": run.state,
        "attempt": run.attempt, "errorCode": run.error_code, "summary": run.summary, "sentAt": run.sent_at,
        "runAt": run.run_at, "startedAt": run.started_at, "closedAt": run.closed_at, "parentId": run.parent_id,
        "replayOf": run.replay_of,
    }  # fmt: skip


def as_wire(run: RunStatus) -> dict[str, Any]:
    """A run as the API shows it. A result is there when the run has completed."""
    found = {
        "id": run.id, "tenantId": run.tenant_id, "event": run.event, "job": run.job, "state": run.state,
        "attempt": run.attempt - run.deaths, "maxAttempts": run.max_attempts, "queue": run.queue,
        "priority": run.priority, "payload": run.payload, "errorCode": run.error_code,
        "errors": [{name: error[name] for name in _OF_AN_ERROR if name in error} for error in run.errors],
        "errorsLeftOut": run.errors_left_out, "runAt": run.run_at, "expiresAt": run.expires_at,
        "createdAt": run.created_at, "startedAt": run.started_at, "closedAt": run.closed_at,
        "cancelRequestedAt": run.cancel_requested_at, "parentId": run.parent_id, "replayOf": run.replay_of,
        "idempotencyKey": run.idempotency_key, "schedule": run.schedule, "scheduledFor": run.scheduled_for,
        "progress": None if run.progress is None else asdict(run.progress), "metadata": run.metadata,
    }  # fmt: skip
    return found | ({"result": run.result} if run.state == "completed" else {})
