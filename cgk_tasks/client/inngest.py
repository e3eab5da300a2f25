"""The provider inngest: events go to Inngest's event API, and its functions with that trigger run.

The id of a run is that of the event. An event may start several functions: they are told together, as a run with
children is. The tenant is `event.data.tenantId`, by which functions can limit concurrency.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote

from cgk_tasks.client.hosted import HostedProvider, checked_key, checked_url, chunks
from cgk_tasks.client.hosted_http import Answer, Connection
from cgk_tasks.client.inngest_runs import found_status
from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    ConfigurationError,
    InvalidOptionError,
    ProviderError,
    RunStateError,
    UnknownRunError,
)
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.runs.models import NewRun, RunHandle, RunStatus

EVENTS = "https://inn.gs"
API = "https://api.inngest.com"
_WHERE_EVENT_KEY = "Copy an event key from your environment's page Event Keys in Inngest; a Dev Server takes any text."
_WHERE_SIGNING_KEY = "Copy it from your environment's page Signing Key in Inngest."
_MOST_ITEMS = 1_000  # Inngest takes 5,000
_MOST_BYTES = 2 * 1024 * 1024
_EVENT_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")


class InngestProvider(HostedProvider):
    """Inngest Cloud, or with `INNGEST_BASE_URL` a server of one's own or the Dev Server."""

    name = "inngest"
    title = "Inngest"
    tunes_not = ("priority", "queue", "max_attempts")
    keeps_ttl = False

    def _deliver(self, runs: Sequence[NewRun], options: Sequence[SendOptions]) -> Iterator[RunHandle]:
        del options
        events = [_event(run) for run in runs]
        sizes = [len(event.encode()) for event in events]
        for chunk in chunks(sizes, most_items=_MOST_ITEMS, most_bytes=_MOST_BYTES):
            content = f"[{','.join(events[position] for position in chunk)}]"
            answer = self._send(content)
            ids = answer.body.get("ids") if isinstance(answer.body, dict) else None
            if answer.status != 200 or not isinstance(ids, list) or len(ids) != len(chunk) or not all(ids):
                # A batch is read event by event: those before the one that is refused are accepted.
                yield from (RunHandle(str(one)) for one in (ids if isinstance(ids, list) else []) if one)
                raise self._refused(answer)
            yield from (RunHandle(str(one)) for one in ids)

    def _send(self, content: str) -> Answer:
        # Inngest makes the ids of events from the seed: a repeat of the request gives the same ones.
        seed = f"{time.time_ns() // 1_000_000},{base64.b64encode(secrets.token_bytes(10)).decode()}"
        path = f"/e/{quote(_event_key(), safe='')}"
        return self._events.post(path, content, headers={"x-inngest-event-id-seed": seed}, accept=(400,))

    def _refused(self, answer: Answer) -> ProviderError:
        said = answer.body.get("error") if isinstance(answer.body, dict) else None
        if answer.status == 200:
            return ProviderError(
                "Inngest did not give an id for each event.",
                "NOT_CONFIGURED",
                hint="Is INNGEST_BASE_URL the address of its API?",
                status=200,
            )
        reason = self._events.masked(str(said))
        return ProviderError(
            f"Inngest refused an event (400: {reason}).", "INVALID_INPUT", hint="Correct what it names.", status=400
        )

    def _refuse_promises(self, run: NewRun) -> None:
        if run.expires_at is not None:
            raise InvalidOptionError(
                "expires",
                "cannot be kept by Inngest.",
                hint="Leave it out, and give the function timeouts.start in Inngest",
            )

    def get_run_status(self, run_id: str) -> RunStatus:
        """The functions that the event started, as one run. `pending` until the first begins, and if there is none."""
        return found_status(*self._look(run_id))

    def _look(self, run_id: str, *, afresh: bool = False) -> tuple[RunStatus, list[dict[str, Any]]]:
        """The event as a run that has not begun, and the records of its functions' runs."""
        just_sent = self._sent.find(run_id)
        event = self._event(run_id, may_be_late=just_sent is not None)
        if event is None:
            assert just_sent is not None
            return just_sent, []
        # Inngest keeps this answer for 15 s. Another address each second gets one of this second.
        path = f"/v1/events/{run_id}/runs?at={time.time_ns() if afresh else int(time.time())}"
        found = _data(self._api.get(path))
        if not isinstance(found, list):
            raise _unexpected("an event's runs")
        return _sent_status(run_id, event, just_sent), [one for one in found if isinstance(one, dict)]

    def _event(self, run_id: object, *, may_be_late: bool = False) -> dict[str, Any] | None:
        if not isinstance(run_id, str) or not _EVENT_ID.fullmatch(run_id):
            raise UnknownRunError(str(run_id))
        answer = self._api.get(f"/v1/events/{run_id}", accept=(404,))
        event = _data(answer)
        if answer.status == 404 or event is None:
            if may_be_late:
                return None
            raise UnknownRunError(run_id)
        if not isinstance(event, dict):
            raise _unexpected("an event")
        return event

    def cancel(self, run_id: str) -> RunStatus:
        """Cancel each function that the event started and that has not ended."""
        status, found = self._look(run_id, afresh=True)
        now = found_status(status, found)
        if now.is_closed:
            raise RunStateError(run_id, now.state, "cancel")
        if not found:
            raise ProviderError(
                f"No function of Inngest has begun for event {run_id}, so there is nothing to cancel yet.",
                "INVALID_STATE",
                hint=("Try again in a moment; if no function has this trigger, nothing will ever run."),
            )
        for one in found:
            if not found_status(status, [one]).is_closed:
                self._cancel_function(quote(str(one.get("run_id")), safe=""))
        return found_status(*self._look(run_id, afresh=True))

    def _cancel_function(self, its_run_id: str) -> None:
        answer = self._api.request("DELETE", f"/v1/runs/{its_run_id}", accept=(404,))
        if answer.status == 404:
            # Some self-hosted versions know no open run by version 1 of the API. 409: it has ended meanwhile.
            version_2 = "/api/v2" if _base_url() else "/v2"
            self._api.post(f"{version_2}/runs/{its_run_id}/cancel", "{}", accept=(409,))

    def retry(self, run_id: str) -> RunHandle:
        """Send the event once more, under a new id: every function with its trigger runs again."""
        status, found = self._look(run_id)
        now = found_status(status, found)
        if not now.is_closed:
            raise RunStateError(run_id, now.state, "retry")
        again = {"id": secrets.token_hex(16), "name": now.event, "data": now.payload}
        answer = self._send(json.dumps([again], ensure_ascii=False))
        ids = answer.body.get("ids") if isinstance(answer.body, dict) else None
        if answer.status != 200 or not ids:
            raise self._refused(answer)
        self._sent.note(replace(status, id=str(ids[0]), state="pending", run_at=None, payload=None))
        return RunHandle(str(ids[0]))

    def close(self) -> None:
        for connection in ("_events", "_api"):
            if connection in vars(self):
                vars(self)[connection].close()

    def _check_settings(self) -> None:
        _event_key()
        _signing_key()

    def _check_access(self) -> None:
        """The signing key is checked. Of the event key only its form: Inngest checks it when an event comes."""
        self._api.get("/v1/events?limit=1")

    @cached_property
    def _events(self) -> Connection:
        return self._api_at(_base_url() or EVENTS, "INNGEST_EVENT_KEY")

    @cached_property
    def _api(self) -> Connection:
        return self._api_at(_base_url() or API, "INNGEST_SIGNING_KEY", _signing_key())

    def _api_at(self, base_url: str, key_name: str, key: str = "") -> Connection:
        return self._connect(
            base_url, key=key, key_name=key_name, url_name="INNGEST_BASE_URL", secrets=_known_secrets()
        )


def _event(run: NewRun) -> str:
    """The wire form. `id` lets Inngest know the same event again for 24 hours;
    without a key each has one of its own.
    """
    if run.idempotency_key is None:
        known_by = run.id
    else:
        known_by = hashlib.sha256(f"{run.tenant_id}\0{run.event}\0{run.idempotency_key}".encode()).hexdigest()
    at = "" if run.run_at is None else f',"ts":{int(run.run_at.timestamp() * 1000)}'
    return f'{{"id":"{known_by}","name":{json.dumps(run.event)},"data":{run.payload}{at}}}'


def checked_event_key(value: str) -> str:
    """The key, if it has the form of one. Raises ConfigurationError."""
    return checked_key("INNGEST_EVENT_KEY", value, begins=(), where=_WHERE_EVENT_KEY)


def checked_signing_key(value: str, *, own_server: bool) -> str:
    """The same of a signing key. A server of one's own may ask for none, or for hexadecimal digits alone."""
    if own_server and (not value or _HEX.fullmatch(value)):
        return value
    if not value:
        raise ConfigurationError(
            "INNGEST_SIGNING_KEY is not set: runs cannot be read without it.", hint=_WHERE_SIGNING_KEY
        )
    return checked_key("INNGEST_SIGNING_KEY", value, begins=("signkey-", "signkey_"), where=_WHERE_SIGNING_KEY)


def _event_key() -> str:
    secret = get_settings().inngest_event_key
    return checked_event_key(secret.get_secret_value() if secret else "")


def _signing_key() -> str:
    secret = get_settings().inngest_signing_key
    return checked_signing_key(secret.get_secret_value() if secret else "", own_server=_base_url() is not None)


def _known_secrets() -> list[str]:
    settings = get_settings()
    keys = [key.get_secret_value() for key in (settings.inngest_event_key, settings.inngest_signing_key) if key]
    return [key for key in keys if len(key) >= 8]  # a Dev Server's "dev" is no secret


def _base_url() -> str | None:
    url = get_settings().inngest_base_url
    return checked_url("INNGEST_BASE_URL", url) if url else None


def _data(answer: Answer) -> Any:
    """What an answer holds; None for what there is not. A failed GET may come as 200 with the fault in its body."""
    if not isinstance(answer.body, dict):
        return None
    status = answer.body.get("status")
    if isinstance(status, int) and status >= 500:
        raise ProviderError(
            f"Inngest has a fault of its own ({status}).",
            "SERVICE_UNAVAILABLE",
            hint="Try again later.",
            status=status,
        )
    return answer.body.get("data")


def _sent_status(run_id: str, event: Mapping[str, Any], just_sent: RunStatus | None) -> RunStatus:
    data = event.get("data")
    received = _time(event.get("received_at")) or (just_sent.created_at if just_sent else None)
    stamp = event.get("ts")
    due = datetime.fromtimestamp(stamp / 1000, UTC) if isinstance(stamp, int | float) and stamp > 0 else received
    is_later = due is not None and due > datetime.now(UTC)
    return RunStatus(
        id=run_id, tenant_id=str(data.get("tenantId", "")) if isinstance(data, dict) else "",
        event=str(event.get("name")), state="scheduled" if is_later else "pending", payload=data, run_at=due,
        created_at=received, idempotency_key=just_sent.idempotency_key if just_sent else None,
    )  # fmt: skip


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if value else None
    except (TypeError, ValueError):
        return None


def _unexpected(what: str) -> ProviderError:
    return ProviderError(
        f"Inngest answered about {what} in a form that is not known here.",
        "NOT_CONFIGURED",
        hint="Is INNGEST_BASE_URL the address of its API?",
    )
