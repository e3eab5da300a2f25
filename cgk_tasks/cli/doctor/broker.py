"""The broker: reachable, new enough, and not dropping messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import redis
from kombu import Connection

from cgk_tasks.broker.dead_messages import KEY, MOST, summary
from cgk_tasks.broker.publisher import get_patient_publisher
from cgk_tasks.cli.doctor.findings import Finding, fail, ok, warn
from cgk_tasks.config import Settings
from cgk_tasks.config.addresses import is_loopback
from cgk_tasks.config.amqp_tls import amqp_tls
from cgk_tasks.config.broker_url import RedisServer, celery_url, is_postgresql, is_redis, redis_py_url, redis_server
from cgk_tasks.errors import BrokerError, ConfigurationError

OLDEST_REDIS = (6, 2)
OLDEST_RABBITMQ = (3, 10)
_CONNECT_SECONDS = 5.0
_ADVICE = "Check CGK_BROKER_URL, and that the server runs. Sends are accepted meanwhile, and wait in PostgreSQL."


def check(settings: Settings) -> list[Finding]:
    try:
        get_patient_publisher().ping()
    except ConfigurationError as error:
        return [fail("broker", error.text, error.hint or "")]
    except BrokerError as error:
        return [fail("broker", str(error), _ADVICE)]
    if is_postgresql(settings.broker):
        return [ok("broker", "None: workers inside applications look in PostgreSQL")]
    if is_redis(settings.broker):
        return _redis(settings.broker, settings.key_prefix)
    return [_rabbitmq(settings.broker)]


def _redis(url: str, prefix: str) -> list[Finding]:
    client = redis.Redis.from_url(
        redis_py_url(url), socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_CONNECT_SECONDS
    )
    try:
        info: Mapping[str, Any] = client.info()
        dead: Any = client.lrange(f"{prefix}{KEY}", 0, -1)
    except redis.RedisError as error:
        return [warn("broker", f"Redis answers, but refuses INFO: {error}", "Allow it: ACL SETUSER ... +info")]
    finally:
        client.close()
    return [
        redis_version(info), eviction(info), persistence(info), *open_to_all(redis_server(url)),
        *unreadable(summary(dead), prefix),
    ]  # fmt: skip


def redis_version(info: Mapping[str, Any]) -> Finding:
    found = str(info.get("redis_version", "0"))
    if _numbers(found) < OLDEST_REDIS:
        return fail("broker", f"Redis {found}", "Use Redis 6.2 or newer, or Valkey.")
    return ok("broker", f"Redis {found}")


def eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        return fail(
            "eviction",
            f"maxmemory-policy is {policy}: Redis drops messages when its memory is full.",
            "CONFIG SET maxmemory-policy noeviction, and in redis.conf too. Give caches a Redis of their own.",
        )
    return ok("eviction", "maxmemory-policy is noeviction")


def persistence(info: Mapping[str, Any]) -> Finding:
    """Whatever it is, it is fine: PostgreSQL holds every run."""
    how = "append-only file" if int(info.get("aof_enabled", 0)) else "snapshots at most"
    return ok("persistence", f"{how}; a lost message costs seconds and no run, as PostgreSQL holds them all")


def open_to_all(server: RedisServer) -> list[Finding]:
    """A Redis that asks for no password, where other machines may reach it. One that wants the client's certificate
    asks enough.
    """
    if server.password or server.path or "ssl_certfile" in server.options or is_loopback(server.host):
        return []
    return [
        warn(
            "broker access",
            f"Redis on {server.host} asks for no password: whoever reaches it can stop workers, drop messages, "
            "and send what CGK_EXTERNAL_EVENTS names and telemetry for any tenant.",
            "Set requirepass, or a user with ACL SETUSER, and put it into CGK_BROKER_URL: "
            "redis://:password@host:6379/0",
        )
    ]


def unreadable(messages: Sequence[Mapping[str, Any]], prefix: str) -> list[Finding]:
    """Messages that workers could not read, or refused, and set aside."""
    if not messages:
        return []
    last = messages[0]
    at = datetime.fromtimestamp(float(last["at"]), UTC)
    number = f"{len(messages)} or more" if len(messages) == MOST else str(len(messages))
    return [
        warn(
            "messages",
            f"{number} unreadable or refused, set aside; the last at {at:%Y-%m-%d %H:%M:%S} UTC in queue "
            f"{last.get('queue')!r}, {last.get('bytes')} bytes: {last.get('problem')}",
            f"Find out who else writes to this broker. Look with LRANGE {prefix}{KEY} 0 9, and end this with "
            f"DEL {prefix}{KEY}",
        )
    ]


def _rabbitmq(url: str) -> Finding:
    with Connection(celery_url(url), ssl=amqp_tls(url) or False, connect_timeout=_CONNECT_SECONDS) as connection:
        connection.ensure_connection(max_retries=1)
        properties = getattr(connection.connection, "server_properties", {})
    found = properties.get("version", "0")
    found = found.decode() if isinstance(found, bytes) else str(found)
    if _numbers(found) < OLDEST_RABBITMQ:
        return fail("broker", f"RabbitMQ {found}", "Use RabbitMQ 3.10 or newer: queues are quorum queues.")
    return ok("broker", f"RabbitMQ {found}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
