"""Addresses that send a signal: what is in them, and how they are signed.

An address is CGK_SIGNAL_URL and a token, which says the run, its tenant, the name of the signal, what is sent, a nonce
and when its time is over, and has their HMAC-SHA256. So none has to be kept to be known again. The nonce becomes the
key of the signal: an address counts once.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from datetime import timedelta
from typing import Final, NamedTuple

from cgk_tasks.config import get_settings
from cgk_tasks.config.encryption_keys import signing_keys
from cgk_tasks.errors import (
    LONGEST_WAIT_SECONDS,
    ConfigurationError,
    InvalidOptionError,
    PermanentError,
    SignalUrlError,
    as_seconds,
)
from cgk_tasks.runs.codec import encode
from cgk_tasks.sql.clock import known_now

_PURPOSE: Final = b"cgk_tasks signal_url 1"
_LONGEST_PAYLOAD: Final = 1_000
_LONGEST_TOKEN: Final = 8_000


class Issue(NamedTuple):
    """What an address has of its own, and what its run remembers of it. expires: seconds since 1970."""

    nonce: str
    expires: int


class SignedSignal(NamedTuple):
    """What a token says. payload: JSON text."""

    run_id: str
    tenant_id: str
    name: str
    payload: str
    nonce: str
    expires: int

    @property
    def key(self) -> str:
        """The key of the signal."""
        return f"url:{self.nonce}"


def new_issue(seconds: float) -> Issue:
    """A new nonce, and the end of the time that begins now."""
    return Issue(secrets.token_urlsafe(16), int(known_now().timestamp() + seconds))


def check_settings() -> None:
    """Raises ConfigurationError where there can be no address."""
    if get_settings().signal_url is None:
        raise ConfigurationError(
            "There is no address for signals.",
            hint="Set CGK_SIGNAL_URL to where the gateway serves them, like https://jobs.example.com/signals.",
        )
    _keys()


def valid_seconds(valid: object, payload: object) -> float:
    """How long an address is valid. Raises InvalidOptionError for what cannot be in one."""
    seconds = as_seconds(valid) if isinstance(valid, int | float | timedelta) and not isinstance(valid, bool) else 0.0
    if not 1 <= seconds <= LONGEST_WAIT_SECONDS:
        raise InvalidOptionError("valid", f"must be at least a second, and at most a hundred years, not {valid!r}")
    _payload_text(payload)
    return seconds


def signal_url(run_id: str, tenant_id: str, name: str, issue: Issue, payload: object) -> str:
    """The address. Raises ConfigurationError, InvalidOptionError."""
    nonce, expires = issue
    said = json.dumps([run_id, tenant_id, name, _payload_text(payload), nonce, expires], separators=(",", ":")).encode()
    token = f"{_encoded(said)}.{_encoded(_signature(_keys()[0], said))}"
    return f"{(get_settings().signal_url or '').rstrip('/')}/{token}"


def read_token(token: str) -> SignedSignal:
    """What a token says. Raises SignalUrlError for one that was not signed here, or whose time is over."""
    body, _, signature = token.partition(".")
    try:
        said, signed = _decoded(body), _decoded(signature)
    except ValueError:
        raise _invalid() from None
    if len(token) > _LONGEST_TOKEN or not any(hmac.compare_digest(_signature(key, said), signed) for key in _keys()):
        raise _invalid()
    signal = SignedSignal(*json.loads(said))
    if signal.expires <= known_now().timestamp():
        raise SignalUrlError("The time of this address is over.", "SIGNAL_URL_EXPIRED")
    return signal


def _payload_text(payload: object) -> str:
    try:
        text = encode(payload)
    except PermanentError:
        text = "null"
    if text == "null" or len(text) > _LONGEST_PAYLOAD:
        raise InvalidOptionError(
            "payload",
            f"of an address must be JSON of at most {_LONGEST_PAYLOAD} characters, and not None, which a wait gives "
            "where nothing has come",
        )
    return text


def _keys() -> list[bytes]:
    """The keys that addresses may be signed with, the newest first."""
    settings = get_settings()
    return signing_keys(
        settings.signal_url_keys or settings.encryption_keys,
        _PURPOSE,
        of_what="the address of a signal",
        named="CGK_SIGNAL_URL_KEYS, wherever workers and the gateway run",
    )


def _signature(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, "sha256")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """Raises ValueError, also for what `_encoded` would have written otherwise: one token has one spelling."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encoded(data) != text:
        raise ValueError
    return data


def _invalid() -> SignalUrlError:
    return SignalUrlError("This address was altered, or cut off, or the key that it was signed with is gone.")
