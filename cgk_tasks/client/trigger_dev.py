"""The provider trigger.dev: an event triggers the task of its name in a Trigger.dev project (its REST API, version 3).

The tenant is the run's tag `tenant:ID`, and its concurrency key: a limit of the task's queue counts for each tenant.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote

from cgk_tasks.client.hosted import HostedProvider, checked_key, checked_url, chunks
from cgk_tasks.client.hosted_http import Connection
from cgk_tasks.config import get_settings
from cgk_tasks.errors import InvalidOptionError, ProviderError, RunStateError, UnknownRunError
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.runs.models import NewRun, RunHandle, RunStatus, State

CLOUD = "https://api.trigger.dev"
_WHERE = "Copy the secret key of an environment from your project's page API keys in Trigger.dev."
_MOST_ITEMS = 500
_MOST_BYTES = 900_000  # Trigger.dev takes 1 MB
_REPEATS_WITHIN = "1h"
_TAG = "tenant:"

_STATES: Mapping[str, State] = {
    "PENDING_VERSION": "held",  # no deployed version has the task
    "WAITING_FOR_DEPLOY": "held",
    "DELAYED": "scheduled",
    "QUEUED": "pending",
    "DEQUEUED": "pending",
    "EXECUTING": "running",
    "WAITING": "running",
    "FROZEN": "running",
    "REATTEMPTING": "retrying",
    "COMPLETED": "completed",
    "CANCELED": "cancelled",
    "EXPIRED": "expired",
    "FAILED": "failed",
    "CRASHED": "failed",
    "INTERRUPTED": "failed",
    "SYSTEM_FAILURE": "failed",
    "TIMED_OUT": "failed",
}
_CODES = {"FAILED": "UNKNOWN_ERROR", "TIMED_OUT": "TIMEOUT"}
_CODE = re.compile(r"[A-Z][A-Z0-9_]{2,}")
_RUN_ID = re.compile(r"run_[A-Za-z0-9]+")


class TriggerDevProvider(HostedProvider):
    """concurrency_per_tenant: send the tenant as concurrency key. False: limits of queues count for all tenants
    together.
    """

    name = "trigger.dev"
    title = "Trigger.dev"
    tunes_not = ("priority",)

    def __init__(self, *, concurrency_per_tenant: bool = True) -> None:
        super().__init__()
        self._concurrency_per_tenant = concurrency_per_tenant

    def _deliver(self, runs: Sequence[NewRun], options: Sequence[SendOptions]) -> Iterator[RunHandle]:
        if len(runs) == 1:
            path = f"/api/v1/tasks/{quote(runs[0].event, safe='')}/trigger"
            body = self._api.post(
                path, f'{{"payload":{runs[0].payload},"options":{self._options(runs[0], options[0])}}}'
            ).body
            yield self._handle(runs[0], body)
            return
        items = [
            f'{{"task":{json.dumps(run.event)},"payload":{run.payload},"options":{self._options(run, its)}}}'
            for run, its in zip(runs, options, strict=True)
        ]
        sizes = [len(item.encode()) for item in items]
        for chunk in chunks(sizes, most_items=_MOST_ITEMS, most_bytes=_MOST_BYTES):
            content = f'{{"items":[{",".join(items[position] for position in chunk)}]}}'
            body = self._api.post("/api/v1/tasks/batch", content).body
            accepted = body.get("runs") if isinstance(body, dict) else None
            if not isinstance(accepted, list) or len(accepted) != len(chunk):
                raise _unexpected("a batch")
            for position, answer in zip(chunk, accepted, strict=True):
                yield self._handle(runs[position], answer)

    def _options(self, run: NewRun, options: SendOptions) -> str:
        if run.idempotency_key is None:  # so that a repeat of the request makes no second run
            key, remembered = run.id, _REPEATS_WITHIN
        else:
            key = f"{run.tenant_id}:{run.idempotency_key}"
            remembered = f"{math.ceil(get_settings().idempotency_seconds)}s"
        given: dict[str, Any] = {
            "tags": [f"{_TAG}{run.tenant_id}"], "idempotencyKey": key, "idempotencyKeyTTL": remembered,
        }  # fmt: skip
        if self._concurrency_per_tenant:
            given["concurrencyKey"] = run.tenant_id
        if run.run_at is not None:
            given["delay"] = run.run_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if run.expires_at is not None:
            given["ttl"] = math.ceil(_seconds_to_start(run))
        if run.max_attempts is not None:
            given["maxAttempts"] = run.max_attempts
        if options.queue is not None:
            given["queue"] = {"name": run.queue}
        return json.dumps(given)

    def _refuse_promises(self, run: NewRun) -> None:
        if run.expires_at is not None and _seconds_to_start(run) <= 0:
            raise InvalidOptionError(
                "expires", "is over before the run is due.", hint="Give it time to start, or do not send it"
            )

    def _handle(self, run: NewRun, answer: Any) -> RunHandle:
        if isinstance(answer, dict) and isinstance(answer.get("id"), str):
            # Without a key of the sender's own, a cached run is that of our first try.
            return RunHandle(answer["id"], bool(answer.get("isCached")) and run.idempotency_key is not None)
        if isinstance(answer, str):  # older servers list bare ids
            return RunHandle(answer)
        raise _unexpected("a run")

    def get_run_status(self, run_id: str) -> RunStatus:
        """The run as Trigger.dev tells it. An error is the last attempt's only."""
        answer = self._api.get(f"/api/v3/runs/{_checked_id(run_id)}", accept=(404,))
        if answer.status == 404:
            just_sent = self._sent.find(run_id)  # its record is read from a copy that may be late
            if just_sent is None:
                raise UnknownRunError(run_id)
            return just_sent
        if not isinstance(answer.body, dict):
            raise _unexpected("a run")
        return _status(answer.body)

    def cancel(self, run_id: str) -> RunStatus:
        status = self.get_run_status(run_id)
        if status.is_closed:
            raise RunStateError(run_id, status.state, "cancel")
        self._api.post(f"/api/v2/runs/{_checked_id(run_id)}/cancel")
        return self.get_run_status(run_id)

    def retry(self, run_id: str) -> RunHandle:
        """Replay the run there. Trigger.dev does not tell later which run it repeats."""
        status = self.get_run_status(run_id)
        if not status.is_closed:
            raise RunStateError(run_id, status.state, "retry")
        body = self._api.post(f"/api/v1/runs/{_checked_id(run_id)}/replay", repeat="if_not_received").body
        if not isinstance(body, dict) or not isinstance(body.get("id"), str):
            raise _unexpected("a replay")
        self._sent.note(RunStatus(body["id"], status.tenant_id, status.event, "pending", queue=status.queue))
        return RunHandle(body["id"])

    def close(self) -> None:
        if "_api" in vars(self):
            self._api.close()

    def _check_settings(self) -> None:
        _key()
        _url()

    def _check_access(self) -> None:
        self._api.get("/api/v1/runs?page%5Bsize%5D=1")

    @cached_property
    def _api(self) -> Connection:
        key = _key()
        return self._connect(_url(), key=key, key_name="TRIGGER_SECRET_KEY", url_name="TRIGGER_API_URL", secrets=(key,))


def checked_secret_key(value: str) -> str:
    """The key, if it has the form of one. Raises ConfigurationError."""
    return checked_key("TRIGGER_SECRET_KEY", value, begins=("tr_",), where=_WHERE)


def _key() -> str:
    secret = get_settings().trigger_secret_key
    return checked_secret_key(secret.get_secret_value() if secret else "")


def _url() -> str:
    return checked_url("TRIGGER_API_URL", get_settings().trigger_api_url or CLOUD)


def _checked_id(run_id: object) -> str:
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        raise UnknownRunError(str(run_id))
    return run_id


def _seconds_to_start(run: NewRun) -> float:
    """How long the run may wait once it is due: that is what Trigger.dev's ttl counts."""
    assert run.expires_at is not None
    return (run.expires_at - (run.run_at or datetime.now(UTC))).total_seconds()


def _status(run: Mapping[str, Any]) -> RunStatus:
    said = str(run.get("status"))
    payload = run.get("payload")
    tags = [tag.removeprefix(_TAG) for tag in run.get("tags") or () if str(tag).startswith(_TAG)]
    tenant_id = tags[0] if tags else str(payload.get("tenantId", "")) if isinstance(payload, dict) else ""
    key = str(run.get("idempotencyKey") or "")
    state = _STATES.get(said, "running")
    error = run.get("error")
    return RunStatus(
        id=str(run.get("id")), tenant_id=tenant_id, event=str(run.get("taskIdentifier")), state=state,
        job=str(run.get("taskIdentifier")), attempt=int(run.get("attemptCount") or 0), payload=payload,
        result=run.get("output") if state == "completed" else None,
        error_code=_code(said, error) if state == "failed" else None,
        errors=[_error(run, error, said)] if isinstance(error, dict) else [],
        run_at=_time(run.get("delayedUntil")) or _time(run.get("createdAt")), created_at=_time(run.get("createdAt")),
        started_at=_time(run.get("startedAt")), closed_at=_time(run.get("finishedAt") or run.get("expiredAt")),
        idempotency_key=key.removeprefix(f"{tenant_id}:") if tenant_id and key.startswith(f"{tenant_id}:") else None,
    )  # fmt: skip


def _code(said: str, error: Any) -> str:
    """The name of the error, where it is a code such as ACCOUNT_CLOSED; else what the state says."""
    name = str(error.get("name") or "") if isinstance(error, dict) else ""
    return name if _CODE.fullmatch(name) else _CODES.get(said, said)


def _error(run: Mapping[str, Any], error: Mapping[str, Any], said: str) -> dict[str, Any]:
    return {
        "attempt": int(run.get("attemptCount") or 0), "type": error.get("name") or "Error", "code": _code(said, error),
        "message": str(error.get("message") or ""), "traceback": error.get("stackTrace") or "",
        "at": run.get("finishedAt"),
    }  # fmt: skip


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if value else None
    except (TypeError, ValueError):
        return None


def _unexpected(what: str) -> ProviderError:
    return ProviderError(
        f"Trigger.dev answered about {what} in a form that is not known here.",
        "NOT_CONFIGURED",
        hint=("Is TRIGGER_API_URL the address of its API, and of version 3 or newer?"),
    )
