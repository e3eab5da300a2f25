"""Which addresses are of the open internet.

The special ones are listed here, by IANA's registries of special-purpose addresses for IPv4 and IPv6: what Python's
`ipaddress` knows of them depends on its release. All of them are left out, also the few that are reachable from
everywhere (anycast of relays, AS112): nobody receives webhooks there. What `ipaddress` knows beside is left out too.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address

SPECIAL_IPV4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared, behind a provider's NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local: clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments: DS-Lite, PCP, TURN, NAT64 discovery
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # relays of 6to4, ended
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

SPECIAL_IPV6: Final = tuple(
    IPv6Network(network)
    for network in (
        "::/8",  # unspecified, loopback, IPv4-compatible; 64:ff9b:1::/48, the NAT64 of one network
        "100::/8",  # discard-only, dummy prefix
        "200::/7",  # NSAP, ended
        "2001::/23",  # protocol assignments: Teredo, benchmarks, AMT, AS112, ORCHID, drones
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local, ended
        "ff00::/8",  # multicast
    )
)

_UNICAST: Final = IPv6Network("2000::/3")
"""All that is given out to networks of the internet."""

# Addresses that packets leave for an IPv4 address inside: that one counts. Where each begins, counted in bits from the
# end.
_EMBEDDING: Final = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052): what DNS64 gives networks without IPv4
    (IPv6Network("2002::/16"), 80),  # 6to4
)


def is_public(address: Address) -> bool:
    """Whether the address is one of the open internet, as far as anybody knows."""
    if isinstance(address, IPv6Address):
        for network, shift in _EMBEDDING:
            if address in network:
                return is_public(IPv4Address(int(address) >> shift & 0xFFFF_FFFF))
        if address not in _UNICAST or any(address in network for network in SPECIAL_IPV6):
            return False
    elif any(address in network for network in SPECIAL_IPV4):
        return False
    return address.is_global and not address.is_reserved
