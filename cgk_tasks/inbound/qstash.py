"""The signature of QStash: a JWT in `Upstash-Signature`, by HMAC-SHA256, that says for which address and body it is.

Upstash tries the current key and then the next one, so that keys can be changed; here either counts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any, Final

from cgk_tasks.inbound.signed_request import SignedRequest, matches, refused

HEADER: Final = "Upstash-Signature"
_LONGEST: Final = 8_000
_LEEWAY_SECONDS: Final = 10.0
"""For clocks that differ. A token lives five minutes."""


def verify(request: SignedRequest, keys: Sequence[str], tolerance: float) -> None:
    """Raises RequestRefusedError, 401. tolerance: a token counts no longer than this after it was issued."""
    token = request.header(HEADER)
    signed, _, signature = token.rpartition(".")
    if len(token) > _LONGEST or signed.count(".") != 1:
        raise refused(f"{HEADER} is no token.")
    digests = [hmac.digest(key.encode(), signed.encode(), "sha256") for key in keys]
    if not matches([signature], [_text(one) for one in digests]):
        raise refused("The token was not signed with a key that is set here.")
    header, claims = (_object(part) for part in signed.split("."))
    if header.get("alg") != "HS256" or claims.get("iss") != "Upstash":
        raise refused("The token is not one of QStash.")
    _check_times(claims, request.now, tolerance)
    if claims.get("sub") != request.url:
        raise refused("The token is for another address: is CGK_GATEWAY_URL what QStash calls?")
    body = claims.get("body")
    given = body.rstrip("=") if isinstance(body, str) else ""
    if not matches([given], [_text(hashlib.sha256(request.body).digest())]):
        raise refused("The token is for another body.")


def _check_times(claims: dict[str, Any], now: float, tolerance: float) -> None:
    not_before, expires, issued = (_number(claims.get(name)) for name in ("nbf", "exp", "iat"))
    if not_before is None or expires is None or not_before > now + _LEEWAY_SECONDS:
        raise refused("The token does not count yet.")
    last = min(expires, (not_before if issued is None else issued) + tolerance)
    if now - _LEEWAY_SECONDS > last:
        raise refused("The time of the token is over.")


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _object(part: str) -> dict[str, Any]:
    """The JSON of a part, of a token whose signature is right."""
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        found = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refused("The token has no JSON.")
    return found


def _no_number(text: str) -> float:
    raise ValueError(text)


def _text(data: bytes) -> str:
    """As tokens have it: Base64 for addresses, without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
