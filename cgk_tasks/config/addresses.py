"""Where a process listens: an address and a port, written the same way in every setting."""

from __future__ import annotations

from ipaddress import ip_address

from cgk_tasks.errors import ConfigurationError

LOOPBACK = "127.0.0.1"


def host_and_port(variable: str, value: str) -> tuple[str, int]:
    """`127.0.0.1:9808`, `[::1]:9808`, or `:9808` for this machine only. Raises ConfigurationError."""
    host, colon, port = value.strip().rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_bracketed = host.startswith("[") and host.endswith("]")
    fits = colon and port.isdecimal() and int(port) <= 65_535 and is_bracketed == (":" in bare)
    if not fits:
        raise ConfigurationError(f"{variable} is {value!r}; it must be an address and a port, like {LOOPBACK}:9808.")
    return bare or LOOPBACK, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host. A name is not looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
