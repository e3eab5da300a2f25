"""The form of a key that secrets are encrypted with: 32 random bytes, as one word of URL-safe Base64."""

from __future__ import annotations

import base64
import os
from typing import Final

_BYTES: Final = 32


def new_key() -> str:
    """A new random key, as CGK_ENCRYPTION_KEYS takes it."""
    return base64.urlsafe_b64encode(os.urandom(_BYTES)).decode()


def key_bytes(key: str) -> bytes:
    """The 32 bytes of a key. Raises ValueError, which does not quote it."""
    try:
        found = base64.b64decode(key, altchars=b"-_", validate=True)
    except ValueError:
        found = b""
    if len(found) != _BYTES:
        raise ValueError("a key is 32 bytes in URL-safe Base64; make one with: cgk-tasks secrets key")
    return found
