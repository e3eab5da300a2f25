"""One secret: AES-256-GCM, bound to its tenant and its name, so that nobody can put it in another place.

Stored as `sealed:1:KEY:DATA`. KEY is the beginning of the key's SHA-256, which tells which key is needed; DATA is the
nonce and what was encrypted, in Base64. A text without that beginning was stored before there was encryption, and is
plain.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Final

from cgk_tasks.config import get_settings
from cgk_tasks.config.encryption_keys import key_bytes
from cgk_tasks.errors import ConfigurationError, SecretUnreadableError

_PREFIX: Final = "sealed:1:"
_NONCE_BYTES: Final = 12


def seal(secret: str, *, tenant_id: str, name: str) -> str:
    """A secret as it is stored, encrypted with the newest key. Raises ConfigurationError without any key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id, key = _newest()
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + AESGCM(key).encrypt(nonce, secret.encode(), _place(tenant_id, name))
    return f"{_PREFIX}{key_id}:{base64.b64encode(sealed).decode()}"


def unseal(stored: str, *, tenant_id: str, name: str) -> str:
    """The secret of this tenant and name. Raises SecretUnreadableError."""
    if not is_sealed(stored):
        return stored
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id, _, data = stored.removeprefix(_PREFIX).partition(":")
    key = _keys().get(key_id)
    if key is None:
        raise SecretUnreadableError(name, tenant_id, key_id)
    try:
        sealed = base64.b64decode(data, validate=True)
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _place(tenant_id, name)).decode()
    except (InvalidTag, ValueError):
        raise SecretUnreadableError(name, tenant_id, None) from None


def is_sealed(stored: str) -> bool:
    """Whether a stored text is encrypted."""
    return stored.startswith(_PREFIX)


def newest_prefix() -> str:
    """How everything begins that is encrypted with the newest key. Raises ConfigurationError without any key."""
    return f"{_PREFIX}{_newest()[0]}:"


def key_ids() -> tuple[str, ...]:
    """The names of the keys of this process, the newest first; they tell nothing about the keys."""
    return tuple(_keys())


def _keys() -> dict[str, bytes]:
    keys = [key_bytes(key.get_secret_value()) for key in get_settings().encryption_keys]
    return {hashlib.sha256(key).hexdigest()[:8]: key for key in keys}


def _newest() -> tuple[str, bytes]:
    for found in _keys().items():
        return found
    raise ConfigurationError(
        "There is no key to encrypt this secret with.",
        hint=(
            "Make one with `cgk-tasks secrets key`, and set it as "
            "CGK_ENCRYPTION_KEYS wherever workers run and secrets are stored, for instance in .env.local. Keep a "
            "copy: what is "
            "encrypted cannot be read without it."
        ),
    )


def _place(tenant_id: str, name: str) -> bytes:
    return f"{tenant_id}\n{name}".encode()  # a tenant's id has no line break
