"""CGK_DATABASE_URL, read once as libpq reads it, and handed to each library as separate values."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cgk_tasks.config.urls import ADVICE, refuse_ambiguous
from cgk_tasks.errors import ConfigurationError

_URL = re.compile(r"postgres(?:ql)?(?:\+\w+)?://(.*)", re.DOTALL)
_LIKE = "CGK_DATABASE_URL is not a URL like postgresql://user:password@host/name"


def parameters(url: str) -> dict[str, Any]:
    """What libpq connects with, whatever driver the URL names. Raises ConfigurationError, which never quotes the
    URL.
    """
    rest = _URL.fullmatch(url)
    if rest is None:
        kind = url.partition("://")[0] if "://" in url else None
        if kind is None:
            raise ConfigurationError(_LIKE)
        raise ConfigurationError(f"CGK_DATABASE_URL names {kind.partition('+')[0]}; only PostgreSQL works.")
    refuse_ambiguous("CGK_DATABASE_URL", url)
    try:
        found = conninfo_to_dict(f"postgresql://{rest[1]}")
        for port in str(found.get("port") or 0).split(","):
            int(port or 0)
        return found
    except (psycopg.ProgrammingError, ValueError):
        # Without the driver's words: they repeat the URL, and with it the password.
        raise ConfigurationError(f"{_LIKE}. {ADVICE}") from None
