"""CGK_BROKER_URL and CGK_CACHE_URL, read once, and written as Celery and as redis-py spell them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from cgk_tasks.config.amqp_tls import without_tls_options
from cgk_tasks.config.urls import ADVICE, refuse_ambiguous
from cgk_tasks.errors import ConfigurationError

_REDIS: Final = ("redis", "rediss")
_SOCKET: Final = ("redis+socket", "unix")
_AMQP: Final = ("amqp", "amqps", "pyamqp")
POSTGRESQL: Final = "postgresql"
"""CGK_BROKER_URL where there is no broker: workers inside applications find their runs in PostgreSQL."""
_CERT_REQS: Final = {"none": "CERT_NONE", "optional": "CERT_OPTIONAL", "required": "CERT_REQUIRED"}


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis. `path`: of its Unix socket, where it has no host. `options`: of TLS, as redis-py names them."""

    host: str
    port: int
    path: str
    user: str
    password: str = field(repr=False)
    database: int
    tls: bool
    options: dict[str, str]

    def for_redis_py(self) -> str:
        """The URL as redis-py reads it."""
        if self.path:
            return f"unix://{self._login()}{quote(self.path)}?db={self.database}"
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{self._login()}{self._place()}/{self.database}{_query(self.options)}"

    def for_celery(self) -> str:
        """The URL as Kombu reads it. Where TLS asks for no certificate it would trust any, so this says that it
        asks.
        """
        if self.path:
            return f"redis+socket://{self._login()}{quote(self.path)}?virtual_host={self.database}"
        options = dict(self.options)
        if self.tls:
            options["ssl_cert_reqs"] = _CERT_REQS[options.get("ssl_cert_reqs", "required")]
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{self._login()}{self._place()}/{self.database}{_query(options)}"

    def _login(self) -> str:
        if not self.user and not self.password:
            return ""
        return f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@"

    def _place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{quote(self.host, safe='')}:{self.port}"


def is_postgresql(url: str) -> bool:
    """Whether it says that there is no broker. Raises ConfigurationError for the URL of a database."""
    if url.partition("://")[0] in {"postgresql", "postgres"} and url != POSTGRESQL:
        raise ConfigurationError(
            "CGK_BROKER_URL names a database.",
            hint="Write CGK_BROKER_URL=postgresql: it is the database of CGK_DATABASE_URL that is used then.",
        )
    return url == POSTGRESQL


def is_redis(url: str) -> bool:
    return url.partition("://")[0] in (*_REDIS, *_SOCKET)


@cache
def redis_server(url: str, variable: str = "CGK_BROKER_URL") -> RedisServer:
    """The Redis that a URL names, in Celery's spelling or in redis-py's. Raises ConfigurationError, which never quotes
    it.
    """
    scheme = _scheme(variable, url)
    if scheme not in (*_REDIS, *_SOCKET):
        raise ConfigurationError(f"{variable} names {scheme}, not Redis. Write it like redis://:password@host:6379/0")
    refuse_ambiguous(variable, url)
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
        given = dict(
            parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(parts.query))
        )
    except ValueError:
        raise ConfigurationError(f"{variable} is not a URL like redis://:password@host:6379/0. {ADVICE}") from None
    is_socket = scheme in _SOCKET
    place = unquote(parts.path) if is_socket else ""
    named = (given.pop("virtual_host", ""), given.pop("db", ""), "" if is_socket else unquote(parts.path).strip("/"))
    database = next((name for name in named if name), "0")
    if not database.isdecimal():
        raise ConfigurationError(
            f"{variable} names no number of a database: write it like redis://host:6379/0. {ADVICE}"
        )
    return RedisServer(
        host="" if is_socket else unquote(parts.hostname or "localhost"),
        port=port,
        path=place,
        user=unquote(parts.username or given.pop("username", "")),
        password=unquote(parts.password or "") or given.pop("password", ""),
        database=int(database),
        tls=scheme == "rediss",
        options=_options(variable, given),
    )


def _options(variable: str, given: dict[str, str]) -> dict[str, str]:
    unknown = [name for name in given if not name.startswith("ssl_")]
    if unknown:
        raise ConfigurationError(f"{variable} has parameters other than db and those of TLS (ssl_…). {ADVICE}")
    if "ssl_cert_reqs" in given:
        wanted = given["ssl_cert_reqs"].lower().removeprefix("cert_")
        if wanted not in _CERT_REQS:
            raise ConfigurationError(f"In {variable} ssl_cert_reqs must be required, optional or none.")
        given["ssl_cert_reqs"] = wanted
    return given


def _query(options: dict[str, str]) -> str:
    return f"?{urlencode(options, quote_via=quote)}" if options else ""


def _scheme(variable: str, url: str) -> str:
    scheme, found, _rest = url.partition("://")
    if not found:
        raise ConfigurationError(f"{variable} is not a URL like redis://:password@host:6379/0")
    if "sentinel" in scheme:
        raise ConfigurationError(
            f"{variable} names Redis Sentinel, which cgk_tasks does not ask. Name the primary: "
            "redis://host:6379/0, through "
            "a name or an address that follows a failover."
        )
    if scheme not in (*_REDIS, *_SOCKET, *_AMQP):
        raise ConfigurationError(f"{variable} must begin with {', '.join((*_REDIS, *_SOCKET, *_AMQP))}.")
    return scheme


@cache
def celery_url(url: str) -> str:
    """CGK_BROKER_URL as Kombu reads it. Raises ConfigurationError, which never quotes it."""
    scheme = _scheme("CGK_BROKER_URL", url)
    if is_redis(url):
        return redis_server(url).for_celery()
    refuse_ambiguous("CGK_BROKER_URL", url)
    try:
        _ = urlsplit(url).port, urlsplit(f"http://{url.partition('://')[2]}").port
    except ValueError:
        raise ConfigurationError(
            f"CGK_BROKER_URL is not a URL like {scheme}://user:password@host:5672/virtual-host. {ADVICE}"
        ) from None
    return without_tls_options(url)


def redis_py_url(url: str, variable: str = "CGK_BROKER_URL") -> str:
    """The URL as redis-py reads it. Raises ConfigurationError, which never quotes it."""
    return redis_server(url, variable).for_redis_py()
