"""Where a webhook may go: to public addresses by https. The address that was checked is the one that is connected
to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import httpx
import structlog

from cgk_tasks.builtin.webhooks.public_addresses import is_public
from cgk_tasks.errors import AddressRefusedError

log = structlog.get_logger("cgk_tasks.webhooks")

_MOST_CHARACTERS: Final = 2000
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_NAME: Final = 253


def check_url(url: str, private_hosts: Collection[str]) -> httpx.URL:
    """The URL, if a webhook may be posted to one of its form. Raises AddressRefusedError that says which part to
    change.

    private_hosts: names that may have private addresses, and may be reached by http.
    """
    if len(url) > _MOST_CHARACTERS:
        raise AddressRefusedError(
            f"The webhook URL has {len(url):,} characters; at most {_MOST_CHARACTERS:,} are allowed."
        )
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError) as exc:
        # The library's text quotes what it takes for the part, which may be half a password.
        part = next((name for name in ("port", "host", "character") if name in str(exc)), "form")
        raise AddressRefusedError(
            f"The webhook URL cannot be read: its {part} is wrong. Write it like https://host/path."
        ) from None
    if parsed.scheme not in {"http", "https"} or not parsed.raw_host:
        raise AddressRefusedError("A webhook URL must be like https://host/path.")
    if parsed.userinfo:
        raise AddressRefusedError(
            "A webhook URL must not hold a user or password. The receiver knows us by the signature."
        )
    host = host_of(parsed)
    if not _is_host(host):
        raise AddressRefusedError(
            f"The host of the webhook URL, {host[:80]!r}, is none: neither an address nor a name like "
            "hooks.example.com."
        )
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise AddressRefusedError(f"The port of the webhook URL is {parsed.port}. Ports are from 1 to 65535.")
    if parsed.scheme == "http" and host not in private_hosts:
        raise AddressRefusedError(
            f"The webhook URL of {host} must begin with https.",
            hint=("For development, name the host in CGK_WEBHOOK_PRIVATE_HOSTS."),
        )
    return parsed


def _is_host(host: str) -> bool:
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return False
        return True
    name = host.removesuffix(".")
    return len(name) <= _LONGEST_NAME and all(_LABEL.fullmatch(label) for label in name.split("."))


def host_of(url: httpx.URL) -> str:
    """The host as DNS knows it: ASCII, an IPv6 address without brackets."""
    return url.raw_host.decode("ascii").strip("[]")


async def resolve(url: httpx.URL, private_hosts: Collection[str]) -> list[str]:
    """The addresses of the URL's host, all of which may be connected to.

    Raises AddressRefusedError if one of them is private, OSError if the name cannot be resolved.
    """
    host = host_of(url)
    port = url.port or (443 if url.scheme == "https" else 80)
    # A thread of its own: look-ups that wait for one tenant's name server take nobody else's place.
    thread = ThreadPoolExecutor(1, thread_name_prefix="cgk-webhook-dns")
    try:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(thread, look_up)
    finally:
        thread.shutdown(wait=False)
    return _checked(host, found, private_hosts)


def refuse_private(url: httpx.URL, private_hosts: Collection[str]) -> None:
    """Raise AddressRefusedError if the host has a private address now. A name that does not resolve yet may pass."""
    host = host_of(url)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    _checked(host, found, private_hosts)


def _checked(host: str, found: Sequence[tuple[Any, ...]], private_hosts: Collection[str]) -> list[str]:
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if host not in private_hosts and not all(is_public(ipaddress.ip_address(address)) for address in addresses):
        # Not which: whoever may register endpoints would learn the addresses of names inside.
        log.warning("webhook_address_refused", host=host)
        raise AddressRefusedError(
            f"Webhooks do not go to {host}: not all of its addresses are of the open internet. "
            "For development, name the host in CGK_WEBHOOK_PRIVATE_HOSTS."
        )
    return addresses
