"""Secrets of the settings in log lines: whatever library writes the line, it does not hold them.

Libraries quote URLs in their errors, some of them whole. A line is looked through when it is a text already, so nothing
that a renderer makes of an exception is missed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote

from pydantic import BaseModel, SecretStr

MASK = "***"

_LOGIN = re.compile(r"(?<=://)[^\s/?#\"'<>\\]*@")
"""The user's name and the password in a URL. A URL of ours has its special characters as %XX; others are refused."""

_SHORTEST = 8


class SecretsMask:
    """Replaces the logins of all URLs, and wherever they stand the passwords and keys of some settings."""

    def __init__(self, settings: BaseModel) -> None:
        known = {form for secret in _secrets_of(settings) for form in _forms(secret)}
        # The longest first: a shorter one may be a part of it.
        self._known = sorted(known, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, MASK)
        return _LOGIN.sub(f"{MASK}@", text) if "://" in text else text


def _secrets_of(settings: BaseModel) -> Iterator[str]:
    for name in type(settings).model_fields:
        for secret in _flat(getattr(settings, name)):
            yield from _parts(secret)


def _flat(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, Mapping):
        yield from _flat(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _flat(item)


def _parts(secret: str) -> Iterator[str]:
    """The password of a URL, or the whole secret. A word is none: it is in too many lines that tell nothing of it."""
    _scheme, is_url, rest = secret.partition("://")
    candidates: Iterable[str] = [secret]
    if is_url:
        login, has_login, place = rest.rpartition("@")
        in_query = re.findall(r"[?&]password=([^&#]*)", place)
        candidates = [*in_query, *([login.partition(":")[2]] if has_login else [])]
    for candidate in candidates:
        plain = unquote(candidate) if is_url else candidate
        if len(plain) >= _SHORTEST and not plain.isalpha():
            yield from (candidate, plain)


def _forms(secret: str) -> Iterator[str]:
    """As it is, in a URL, and as JSON and Python quote it."""
    yield from (secret, quote(secret, safe=""), repr(secret)[1:-1])
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (json.dumps(repr(secret)[1:-1])[1:-1], json.dumps(repr(secret)[1:-1], ensure_ascii=False)[1:-1])
