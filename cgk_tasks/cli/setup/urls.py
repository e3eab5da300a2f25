"""URLs of servers: checked before they are used, changed without harm, and shown without their password."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

from cgk_tasks.cli.setup.env_file import unwritable

DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "unix", "amqp", "amqps", "pyamqp")

_PASSWORD = re.compile(r"(//[^/@]*?:).*(@)", re.DOTALL)
_PASSWORD_IN_QUERY = re.compile(r"(password=)[^&]*", re.IGNORECASE)


def problem(url: str, schemes: tuple[str, ...]) -> str | None:
    """What is wrong with the form of a URL, without any part of it that may be secret; None if nothing is."""
    scheme = url.partition(":")[0]
    if "://" not in url or scheme not in schemes:
        return f"It must begin with {schemes[0]}:// (or {', '.join(schemes[1:])})."
    try:
        _ = urlsplit(url).port
    except ValueError:
        return "Its port is not a number. Is there a / ? # or @ in the password? Write them as %2F %3F %23 %40."
    return None


def writable(url: str) -> str:
    """The same URL without characters that an env file cannot hold."""
    for character in set(unwritable(url)):
        url = url.replace(character, quote(character, safe=""))
    return url


def masked(url: str) -> str:
    """The URL as it may be shown."""
    return _PASSWORD_IN_QUERY.sub(r"\1***", _PASSWORD.sub(r"\1***\2", url))


def with_password(url: str, password: str) -> str:
    """The URL with a password, or another one."""
    parts = urlsplit(url)
    login, _, server = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{server}"))
