"""The form of a key that secrets are encrypted with, and others are derived from: 32 random bytes, as one word of
URL-safe Base64.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Sequence
from typing import Final

from pydantic import SecretStr

from cgk_tasks.errors import ConfigurationError

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


def signing_keys(keys: Sequence[SecretStr], purpose: bytes, *, of_what: str, named: str) -> list[bytes]:
    """Keys for signatures, in the order of those that they are derived from: they open nothing else.

    of_what, named: for who has no key, what would be signed, and what to set where. Raises ConfigurationError then.
    """
    if not keys:
        raise ConfigurationError(
            f"There is no key to sign {of_what} with.",
            hint=f"Make one with `cgk-tasks secrets key`, and set it as CGK_ENCRYPTION_KEYS, or as {named}.",
        )
    return [hmac.digest(key_bytes(key.get_secret_value()), purpose, "sha256") for key in keys]
