"""The address of a client behind proxies. Headers are believed only if a trusted proxy sent them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from tornado.httputil import HTTPServerRequest

from cgk_tasks.errors import ConfigurationError

UNIX_SOCKET = "unix"
"""Stands among the trusted proxies for whoever connects to the socket of `--unix_socket`."""

_TORNADO_UNIX_ADDRESS = "0.0.0.0"  # noqa: S104 - what Tornado says of a client at a UNIX socket
Network = IPv4Network | IPv6Network


class TrustedProxies:
    """The networks of CGK_DASHBOARD_TRUSTED_PROXIES. Raises ConfigurationError for what is none."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(_network(text) for text in networks)

    def apply(self, request: HTTPServerRequest) -> None:
        """Set the request's address and protocol to those of the client, if the peer is a trusted proxy.

        X-Forwarded-For is read from the right, where the nearest proxy writes, to the first address that is not a
        trusted proxy. What stands left of it came from the client, who can write anything.
        """
        peer = str(request.remote_ip)
        if not self._is_trusted(peer):
            return
        client = peer
        for text in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
            address = _address(text)
            if address is None:
                break
            client = str(address)
            if not self._is_trusted(client):
                break
        request.remote_ip = client
        forwarded = request.headers.get("X-Forwarded-Proto", request.headers.get("X-Scheme", ""))
        protocol = forwarded.rpartition(",")[2].strip()
        if protocol in {"http", "https"}:
            request.protocol = protocol

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


def _network(text: str) -> Network:
    try:
        return ip_network(_TORNADO_UNIX_ADDRESS if text == UNIX_SOCKET else text)
    except ValueError as exc:
        raise ConfigurationError(
            f"CGK_DASHBOARD_TRUSTED_PROXIES has {text!r}: {exc}. Write addresses or networks, such as 10.0.0.0/8."
        ) from None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it, some of them with a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
