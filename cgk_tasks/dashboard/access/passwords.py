"""Password hashes: Argon2id. Hashes of the old users file (`scrypt$n$r$p$salt$hash`) are verified too."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER: Final = PasswordHasher()
_SCRYPT_MEMORY = 64 * 1024 * 1024


def hash_password(password: str) -> str:
    """The hash to store. Takes some 0.1 s and 64 MiB, on purpose."""
    return _HASHER.hash(password)


def verify_password(password: str, stored: str) -> bool:
    """Whether the password has this hash. False for what is no hash."""
    if stored.startswith("scrypt$"):
        return _verify_scrypt(password, stored)
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(stored: str) -> bool:
    """Whether a hash that was just verified should be replaced: it is of the old kind, or has weaker parameters."""
    return stored.startswith("scrypt$") or _HASHER.check_needs_rehash(stored)


@cache
def dummy_hash() -> str:
    """Verified for names that do not exist, so that a refusal takes as long as for those that do."""
    return hash_password(secrets.token_urlsafe())


def _verify_scrypt(password: str, stored: str) -> bool:
    try:
        _kind, cost, block, parallel, salt, digest = stored.split("$")
        found = hashlib.scrypt(
            password.encode(), salt=_bytes(salt), n=int(cost), r=int(block), p=int(parallel), maxmem=_SCRYPT_MEMORY,
            dklen=32,
        )  # fmt: skip
        return hmac.compare_digest(found, _bytes(digest))
    except ValueError:
        return False


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
