"""The address of a trace in another program, as a template: `https://jaeger.example/trace/{trace_id}`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from cgk_tasks.config.nearest import did_you_mean

NAMES: Final = ("trace_id", "span_id", "run_id", "tenant_id")
PLACE: Final = re.compile(r"\{([^{}]*)\}")


def checked_trace_url(template: str) -> str:
    """The template, if it is one. Raises ValueError, which says what is wrong with it."""
    scheme, separator, rest = template.partition("://")
    if scheme.lower() not in {"http", "https"} or not separator:
        raise ValueError("it must begin with https:// or http://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not host or "{" in host or "}" in host:
        raise ValueError("it must begin with a host, like https://jaeger.example; names in braces come after it")
    if not template.isascii() or not template.isprintable() or " " in template:
        raise ValueError("an address has no spaces and no characters but ASCII: write them like %20")
    for name in PLACE.findall(template):
        if name not in NAMES:
            raise ValueError(f"{{{name}}} is not known. There are {_named()}.{did_you_mean(name, NAMES)}")
    if re.search(r"[{}]", PLACE.sub("", template)):
        raise ValueError(f"a brace stands alone. Names are {_named()}; a brace of the address's own is %7B or %7D")
    try:
        _ = urlsplit(template).port
    except ValueError as exc:
        raise ValueError(f"it is no address: {exc}") from None
    return template


def _named() -> str:
    return ", ".join(f"{{{name}}}" for name in NAMES)
