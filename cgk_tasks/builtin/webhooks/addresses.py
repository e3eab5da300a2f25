"""Where a webhook may go: to public addresses by https. The address that was checked is the one that is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Sequence
from typing import Any, Final

import httpx

from cgk_tasks.errors import AddressRefusedError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Gateways to IPv4 (RFC 6052): what counts is the address that is inside.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def check_url(url: str, private_hosts: Collection[str]) -> httpx.URL:
    """The URL, if a webhook may be posted to one of its form. Raises AddressRefusedError that says what to change.

    private_hosts: names that may have private addresses, and may be reached by http.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as exc:
        raise AddressRefusedError(
            f"The webhook URL cannot be read: {exc}.", hint="Write it like https://host/path."
        ) from None
    host = host_of(parsed)
    if not host or parsed.scheme not in {"http", "https"}:
        raise AddressRefusedError("A webhook URL must be like https://host/path.")
    if parsed.scheme == "http" and host not in private_hosts:
        raise AddressRefusedError(
            f"The webhook URL of {host} must begin with https.",
            hint=("For development, name the host in CGK_WEBHOOK_PRIVATE_HOSTS."),
        )
    if parsed.userinfo:
        raise AddressRefusedError(
            "A webhook URL must not hold a user or password.", hint="The receiver knows us by the signature."
        )
    return parsed


def host_of(url: httpx.URL) -> str:
    """The host as DNS knows it: ASCII, an IPv6 address without brackets."""
    return url.raw_host.decode("ascii").strip("[]")


async def resolve(url: httpx.URL, private_hosts: Collection[str]) -> list[str]:
    """The addresses of the URL's host, all of which may be connected to.

    Raises AddressRefusedError if one of them is private, OSError if the name cannot be resolved.
    """
    host = host_of(url)
    port = url.port or (443 if url.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
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
    if host not in private_hosts:
        for address in addresses:
            if not is_public(ipaddress.ip_address(address)):
                raise AddressRefusedError(
                    f"{host} has the private address {address}, where webhooks do not go.",
                    hint="For development, name the host in CGK_WEBHOOK_PRIVATE_HOSTS.",
                )
    return addresses


def is_public(address: Address) -> bool:
    """Whether the address is one of the open internet: not private, loopback, link-local, shared, multicast, reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _ipv4_inside(address)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _ipv4_inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this one end up at, by mapping, 6to4, Teredo or NAT64."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
