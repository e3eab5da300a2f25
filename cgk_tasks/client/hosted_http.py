"""Requests to a hosted system: time limits, repeats where they do no harm, and errors that say what to do."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import httpx

from cgk_tasks.client.httpx_logging import unlogged_requests
from cgk_tasks.errors import ProviderError
from cgk_tasks.jobs.classification import classify_error

Repeat = Literal["always", "if_not_received"]

_TRIES = 4
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_ANSWER = 32 * 1024 * 1024
_EXCERPT = 300
_LATER = "Try again later."
_NOT_RECEIVED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and the JSON that came with it (None if it is none)."""

    status: int
    body: Any


@dataclass
class Connection:
    """To one base URL of a hosted system.

    system: its name in errors. key_name, url_name: the settings that errors name. secrets: never in an error.
    timeout_seconds: of a request with its repeats. Safe in threads, and after a fork.
    """

    system: str
    base_url: str
    headers: Mapping[str, str]
    key_name: str
    url_name: str
    secrets: Collection[str]
    timeout_seconds: float
    _client: httpx.Client | None = field(default=None, repr=False)
    _pid: int = 0

    def post(
        self,
        path: str,
        content: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
        repeat: Repeat = "always",
    ) -> Answer:
        """`content` is JSON text. See `request`."""
        return self.request("POST", path, content=content.encode(), headers=headers, accept=accept, repeat=repeat)

    def get(self, path: str, *, accept: Collection[int] = ()) -> Answer:
        """See `request`."""
        return self.request("GET", path, accept=accept)

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
        repeat: Repeat = "always",
    ) -> Answer:
        """The answer to a request, if its status is 2xx or one of `accept`.

        Repeated after a fault of the network, 408, 429 and 5xx while there is time; with `if_not_received` only where
        the system cannot have acted on it. Raises ProviderError.
        """
        give_up = time.monotonic() + self.timeout_seconds
        pause = _FIRST_PAUSE_SECONDS
        for tries_left in reversed(range(_TRIES)):
            answer = self._try(method, path, content, headers or {}, accept, give_up)
            if isinstance(answer, Answer):
                return answer
            error, may_repeat = answer
            wait = max(pause * random.uniform(1.0, 1.5), error.retry_after or 0.0)  # noqa: S311 - no secret
            last = tries_left == 0 or not may_repeat[repeat] or time.monotonic() + wait >= give_up
            if last:
                raise error
            time.sleep(wait)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def masked(self, said: str) -> str:
        """What the system said, as an error may quote it: on one line, cut, and without our keys."""
        text = " ".join(said.split())
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text[:_EXCERPT]

    def _try(
        self,
        method: str,
        path: str,
        content: bytes,
        headers: Mapping[str, str],
        accept: Collection[int],
        give_up: float,
    ) -> Answer | tuple[ProviderError, dict[Repeat, bool]]:
        # Two silent tries fit into the time that the request has.
        limit = max(0.05, min(self.timeout_seconds / 2, give_up - time.monotonic()))
        try:
            with (
                unlogged_requests(),
                self._http().stream(
                    method, path, content=content, headers={**self.headers, **headers}, timeout=limit
                ) as response,
            ):
                body = self._read(response, give_up)
        except httpx.TransportError as exc:
            return self._unreachable(exc), {"always": True, "if_not_received": isinstance(exc, _NOT_RECEIVED)}
        if not response.is_success and response.status_code not in accept:
            return self._refused(response, body), _may_repeat(response)
        return Answer(response.status_code, self._json(response, body))

    def _http(self) -> httpx.Client:
        if self._client is None or self._pid != os.getpid():  # a forked child makes connections of its own
            self._client, self._pid = httpx.Client(base_url=self.base_url, follow_redirects=False), os.getpid()
        return self._client

    def _read(self, response: httpx.Response, give_up: float) -> bytes:
        read = bytearray()
        for chunk in response.iter_bytes():
            read += chunk
            if time.monotonic() > give_up:
                raise httpx.ReadTimeout("no complete answer in time")
            if len(read) > _LONGEST_ANSWER:
                raise self._error(
                    f"answered with more than {_LONGEST_ANSWER:,} bytes.", "INVALID_INPUT", response.status_code
                )
        return bytes(read)

    def _json(self, response: httpx.Response, body: bytes) -> Any:
        if not body.strip():
            return None
        try:
            return json.loads(body)
        except ValueError:
            if not response.is_success:
                return None
            raise self._error(
                f"answered with no JSON. Is {self.url_name} the address of its API?",
                "NOT_CONFIGURED",
                response.status_code,
            ) from None

    def _unreachable(self, exc: httpx.TransportError) -> ProviderError:
        found = classify_error(exc)
        timed_out = isinstance(exc, httpx.TimeoutException)
        reason = f"did not answer within {self.timeout_seconds:g} s" if timed_out else f"cannot be reached: {exc}"
        # The cause is left out: its parts quote the request, and with it the key.
        return self._error(
            f"{reason.rstrip('.')}. Nothing is known of the request's fate.",
            found.code,
            None,
            hint=f"Check {self.url_name} and the network, and try again later.",
        )

    def _refused(self, response: httpx.Response, body: bytes) -> ProviderError:
        status = response.status_code
        found = classify_error(httpx.HTTPStatusError("", request=response.request, response=response))
        said = self._excerpt(response, body)
        if status in (401, 403):
            return self._error(
                f"refused {self.key_name} ({status}{said}).",
                "INVALID_CREDENTIALS",
                status,
                hint="Check that it is complete, and of the environment that you mean.",
            )
        if response.is_redirect:
            text = f"answered with a redirect ({status}), which is not followed."
            return self._error(text, "NOT_CONFIGURED", status, hint=f"Set {self.url_name} to the final address.")
        if status == 429:
            waits = found.retry_after if "retry-after" in response.headers else None
            return self._error(f"asks to send more slowly (429{said}).", "RATE_LIMITED", status, waits, hint=_LATER)
        if status >= 500:
            waits = found.retry_after if "retry-after" in response.headers else None
            return self._error(f"has a fault of its own ({status}{said}).", found.code, status, waits, hint=_LATER)
        if status == 413:
            text = f"refused the payload as too large (413{said})."
            return self._error(text, "PAYLOAD_TOO_LARGE", status, hint="Store the data and send a reference to it.")
        return self._error(
            f"refused the request ({status}{said}).", "INVALID_INPUT", status, hint="Correct what it names."
        )

    def _error(
        self, text: str, code: str, status: int | None, retry_after: float | None = None, *, hint: str | None = None
    ) -> ProviderError:
        return ProviderError(f"{self.system} {text}", code, status=status, retry_after=retry_after, hint=hint)

    def _excerpt(self, response: httpx.Response, body: bytes) -> str:
        """What it says about the refusal, where that is no page."""
        found = self._json(response, body) if "json" in response.headers.get("content-type", "") else None
        said = found.get("error") or found.get("message") if isinstance(found, dict) else None
        text = self.masked(said if isinstance(said, str) else body.decode(errors="replace"))
        return f": {text}" if text and not text.startswith("<") else ""


def _may_repeat(response: httpx.Response) -> dict[Repeat, bool]:
    if response.headers.get("x-should-retry") == "false":  # Trigger.dev says so
        return {"always": False, "if_not_received": False}
    status = response.status_code
    return {"always": status in (408, 429) or status >= 500, "if_not_received": status == 429}
