"""Passwords are kept as scrypt hashes: `scrypt$n$r$p$salt$hash`, all in one text."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from functools import cache

_COST, _BLOCK, _PARALLEL = 2**15, 8, 1
_MEMORY = 64 * 1024 * 1024


def hash_password(password: str) -> str:
    """The text to keep of a password. Takes about 0.1 s, on purpose."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, _COST, _BLOCK, _PARALLEL)
    return f"scrypt${_COST}${_BLOCK}${_PARALLEL}${_text(salt)}${_text(digest)}"


def verify_password(password: str, kept: str) -> bool:
    """Whether this is the password that was kept. False for a kept text that is none of ours."""
    try:
        kind, cost, block, parallel, salt, digest = kept.split("$")
        if kind != "scrypt":
            return False
        found = _scrypt(password, _bytes(salt), int(cost), int(block), int(parallel))
        return hmac.compare_digest(found, _bytes(digest))
    except ValueError:
        return False


@cache
def dummy_hash() -> str:
    """Checked for names that do not exist, so that a refusal takes as long as for those that do."""
    return hash_password(secrets.token_urlsafe())


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
