"""How other systems sign what they send. A scheme checks a request, and knows where the id of its delivery stands.

All of them sign the body as it came, byte for byte, and any of several secrets may have been used, so that one can be
changed while both count. What was given is compared in constant time, and never decoded.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.inbound import qstash
from cgk_tasks.inbound.signed_request import SignedRequest, check_time, matches, refused

SchemeName = Literal["standard", "stripe", "shopify", "github", "qstash", "bearer"]

_LONGEST_ID: Final = 200


Verify = Callable[[SignedRequest, Sequence[str], float], None]
"""Takes a request, the secrets and for how many seconds a signature counts. Raises RequestRefusedError, 401."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """id_of: the id that a delivery keeps when it is repeated; the payload may be any JSON, or None."""

    verify: Verify
    id_of: Callable[[SignedRequest, Any], object]
    takes_get: bool = False


def _require(given: Sequence[str], expected: Sequence[str]) -> None:
    if not matches(given, expected):
        raise refused("The signature is not one of this body.")


def _digests(secrets: Sequence[bytes], signed: bytes) -> list[bytes]:
    return [hmac.digest(secret, signed, "sha256") for secret in secrets]


def _encoded(secrets: Sequence[str]) -> list[bytes]:
    return [secret.encode() for secret in secrets]


def _standard(request: SignedRequest, secrets: Sequence[str], tolerance: float) -> None:
    """Standard Webhooks 1.0: `v1,` and Base64 of id.time.body, several separated by spaces."""
    delivery, time = request.header("Webhook-Id"), request.header("Webhook-Timestamp")
    signatures = request.header("Webhook-Signature").split(" ")
    check_time("Webhook-Timestamp", time, request.now, tolerance)
    signed = f"{delivery}.{time}.".encode("latin-1", "replace") + request.body
    expected = [base64.b64encode(one).decode() for one in _digests(list(map(_standard_key, secrets)), signed)]
    _require([one.removeprefix("v1,") for one in signatures if one.startswith("v1,")], expected)


def _standard_key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ConfigurationError(
            "A secret of Standard Webhooks is Base64, with or without whsec_ before it.",
            hint="Copy it whole from where the sender shows it.",
        ) from None


def _stripe(request: SignedRequest, secrets: Sequence[str], tolerance: float) -> None:
    """`t=` and one or more `v1=`: hexadecimal, of time.body. The secret is used with its whsec_."""
    parts = [part.strip().partition("=") for part in request.header("Stripe-Signature").split(",")]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1:
        raise refused("The header Stripe-Signature has not one t=.")
    check_time("Stripe-Signature", times[0], request.now, tolerance)
    signed = f"{times[0]}.".encode() + request.body
    expected = [one.hex() for one in _digests(_encoded(secrets), signed)]
    _require([value for name, _, value in parts if name == "v1"], expected)


def _shopify(request: SignedRequest, secrets: Sequence[str], _tolerance: float) -> None:
    """Base64, of the body alone."""
    given = request.header("X-Shopify-Hmac-SHA256")
    expected = [base64.b64encode(one).decode() for one in _digests(_encoded(secrets), request.body)]
    _require([given], expected)


def _github(request: SignedRequest, secrets: Sequence[str], _tolerance: float) -> None:
    """`sha256=` and hexadecimal, of the body alone."""
    given = request.header("X-Hub-Signature-256")
    _require([given], [f"sha256={one.hex()}" for one in _digests(_encoded(secrets), request.body)])


def _bearer(request: SignedRequest, secrets: Sequence[str], _tolerance: float) -> None:
    """The secret itself, as Vercel Cron and many others send it."""
    kind, _, token = request.header("Authorization").partition(" ")
    if kind.lower() != "bearer" or not matches([token.strip()], secrets):
        raise refused("The header Authorization has not the secret of this source.")


def _header(name: str) -> Callable[[SignedRequest, Any], object]:
    return lambda request, _payload: request.headers.get(name)


def _stripe_id(_request: SignedRequest, payload: Any) -> object:
    return payload.get("id") if isinstance(payload, dict) else None


def _bearer_id(request: SignedRequest, _payload: Any) -> object:
    """Without an id the same call counts once in a minute: a clock may call twice."""
    minute = f"{_digest(request.body)}:{int(request.now // 60)}"
    return request.headers.get("idempotency-key") or minute


SCHEMES: Final[Mapping[SchemeName, Scheme]] = {
    "standard": Scheme(_standard, _header("webhook-id")),
    "stripe": Scheme(_stripe, _stripe_id),
    "shopify": Scheme(_shopify, _header("x-shopify-webhook-id")),
    "github": Scheme(_github, _header("x-github-delivery")),
    "qstash": Scheme(qstash.verify, _header("upstash-message-id")),
    "bearer": Scheme(_bearer, _bearer_id, takes_get=True),
}


def delivery_id(scheme: Scheme, request: SignedRequest, payload: Any) -> str:
    """What makes a delivery the same as an earlier one: the sender's id, else a digest of the body."""
    found = scheme.id_of(request, payload)
    if not isinstance(found, str) or not found or "\0" in found:
        return _digest(request.body)
    return found if len(found) <= _LONGEST_ID else hashlib.sha256(found.encode("utf-8", "surrogatepass")).hexdigest()


def check_secrets(name: SchemeName, secrets: Sequence[str]) -> None:
    """Raises ConfigurationError for a secret that cannot be one of this scheme."""
    if name == "standard":
        for secret in secrets:
            _standard_key(secret)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
