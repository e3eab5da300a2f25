"""The Celery settings of an app: those of the package, with the application's own laid over them.

Where the two cannot both hold, the application's are refused by name: a broker that only one half of the system uses,
or arguments that are no JSON, would be noticed much later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import structlog
from celery.app.defaults import _TO_NEW_KEY, _TO_OLD_KEY, SETTING_KEYS  # type: ignore[attr-defined]
from celery.app.utils import Settings
from kombu.utils.url import maybe_sanitize_url

from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import is_redis, redis_server
from cgk_tasks.errors import ConfigurationError

log = structlog.get_logger("cgk_tasks.celery")

_BEAT_SCHEDULER: Final = "cgk_tasks.schedules.scheduler:CgkScheduler"
REPLACED_SCHEDULERS: Final = frozenset(
    {
        "celery.beat:PersistentScheduler",
        "celery.beat.PersistentScheduler",
        "django",
        "django_celery_beat.schedulers:DatabaseScheduler",
        "django_celery_beat.schedulers.DatabaseScheduler",
        _BEAT_SCHEDULER,
    }
)
"""Schedulers whose work ours does."""

_ONLY_OURS: Final = ("broker_transport", "worker_consumer")
_FORMATS: Final = frozenset({"json", "application/json"})
_KEY_OPTIONS: Final = ("global_keyprefix", "priority_steps", "sep")
"""They name the lists in Redis, which senders write without Celery."""

_OF_RESULTS: Final = (
    "arangodb_", "azureblockblob_", "beat_schedule_filename", "cache_backend", "cassandra_", "cosmosdbsql_",
    "couchbase_", "couchdb_", "database_", "dynamodb_", "elasticsearch_", "gcs_", "mongodb_", "redis_",
    "result_backend", "result_cache_max", "result_exchange", "result_expires", "result_persistent", "s3_",
)  # fmt: skip
"""What settings begin with that are about where results are kept; and the file of Celery's own beat."""


def own_scheduler(named: str) -> str:
    """The scheduler that beat uses where the application names one. Raises ConfigurationError."""
    if named not in REPLACED_SCHEDULERS:
        raise ConfigurationError(
            f"The Celery setting beat_scheduler is {named!r}, which would send without a record of ticks.",
            hint=f"Leave it out: {_BEAT_SCHEDULER} reads beat_schedule and the tables of django-celery-beat.",
        )
    return _BEAT_SCHEDULER


def package_settings() -> dict[str, Any]:
    """Those of cgk_tasks/celeryconfig.py."""
    return settings_of(import_module("cgk_tasks.celeryconfig"))


def settings_of(module: object) -> dict[str, Any]:
    """The settings that a module names, in Celery's spelling of today."""
    return {key: value for key, value in vars(module).items() if key.islower() and key[0] != "_"}


def _todays_key(key: str) -> str:
    return str(_TO_NEW_KEY.get(key, key))


def _old_key(key: str) -> str:
    return str(_TO_OLD_KEY.get(key, key))


def given_settings(given: Mapping[str, Any], namespace: str | None) -> dict[str, Any]:
    """The settings of Celery among those that an application gives, with or without a prefix, in today's spelling."""
    view = Settings({}, [given], (_todays_key, _old_key), prefix=namespace)
    return {key: view[key] for key in SETTING_KEYS if key in view}


def laid_over(package: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The package's settings with the application's over them. Raises ConfigurationError, which names the setting."""
    both = {**package, **given}
    options = given.get("broker_transport_options")
    if options:
        ours = package["broker_transport_options"]
        for name in _KEY_OPTIONS:
            if name in options and options[name] != ours.get(name, ":" if name == "sep" else None):
                raise ConfigurationError(
                    f"The Celery setting broker_transport_options names {name}={options[name]!r}, but senders and "
                    f"workers of cgk_tasks use {ours.get(name)!r}.",
                    hint="Leave it out; CGK_KEY_PREFIX is the setting for a prefix.",
                )
        both["broker_transport_options"] = {**ours, **options}
    return both


def refuse_what_cannot_hold(conf: Any, package: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for a setting in force that would split the system or change what is kept."""
    for refusal in refusals(conf, package):
        raise refusal


def refusals(conf: Any, package: Mapping[str, Any]) -> Iterator[ConfigurationError]:
    """What is refused of the settings in force."""
    for name in ("task_serializer", "result_serializer"):
        if conf[name] not in _FORMATS:
            yield ConfigurationError(
                f"The Celery setting {name} is {conf[name]!r}: arguments and results are kept as JSON.",
                hint="Leave it out, or write 'json'.",
            )
    refused = [one for one in conf["accept_content"] or () if one not in _FORMATS]
    if refused:
        yield ConfigurationError(
            f"The Celery setting accept_content has {', '.join(map(repr, refused))}: messages are JSON only.",
            hint="Leave it out, or write ['json'].",
        )
    for name in _ONLY_OURS:
        if conf[name] != package[name]:
            yield ConfigurationError(
                f"The Celery setting {name} is {conf[name]!r}, but cgk_tasks needs its own ({package[name]!r}).",
                hint="Leave it out.",
            )
    if (conf["broker_use_ssl"] or None) != package["broker_use_ssl"]:
        yield ConfigurationError(
            "The Celery setting broker_use_ssl is not read by senders.",
            hint="Say it in CGK_BROKER_URL: rediss://host:6379/0?ssl_ca_certs=..., or amqps://host/v?ssl_ca_certs=...",
        )
    try:
        own_scheduler(conf["beat_scheduler"])
    except ConfigurationError as exc:
        yield exc
    if not conf["task_always_eager"]:
        urls = dict.fromkeys(map(_urls, (conf.broker_read_url, conf.broker_write_url)))
        yield from filter(None, (_other_broker(given) for given in urls if given != _urls(package["broker_url"])))


def _urls(given: Any) -> tuple[str, ...]:
    return tuple(given.split(";") if isinstance(given, str) else given or ())


def _other_broker(urls: tuple[str, ...]) -> ConfigurationError | None:
    configured = get_settings().broker_url
    if configured is None:
        return ConfigurationError(
            f"The Celery setting broker_url is {_shown(urls)}, and CGK_BROKER_URL is not set: senders would not know "
            "the broker.",
            hint="Set CGK_BROKER_URL to it.",
        )
    ours = configured.get_secret_value()
    if all(_place(url) == _place(ours) for url in urls):
        return None
    return ConfigurationError(
        f"The Celery setting broker_url is {_shown(urls)}, and CGK_BROKER_URL is {maybe_sanitize_url(ours)}: "
        "senders would write to the one and workers read from the other.",
        hint="Leave broker_url out, or give both the same value.",
    )


def _shown(urls: Iterable[str]) -> str:
    return "; ".join(str(maybe_sanitize_url(url)) for url in urls)


def _place(url: str) -> tuple[object, ...]:
    """Where a broker is, without who logs in there."""
    try:
        if is_redis(url):
            server = redis_server(url)
            return ("redis", _host(server.host), server.port, server.path, server.database, server.tls)
        parts = urlsplit(url)
        tls = parts.scheme == "amqps"
        path = unquote(parts.path.removeprefix("/")) or "/"
        return (
            "amqp" if "amqp" in parts.scheme else parts.scheme,
            _host(parts.hostname),
            parts.port or 5672,
            path,
            tls,
        )
    except (ConfigurationError, ValueError):
        return (url,)


def _host(name: str | None) -> str:
    return "localhost" if name in {None, "", "127.0.0.1", "::1", "localhost"} else str(name)


def unused(given: Mapping[str, Any]) -> list[str]:
    """The settings of the application that nothing reads: those about where results are kept, unless they are ours."""
    package = package_settings()
    of_results = (name for name in given if name.startswith(_OF_RESULTS) and name != "result_backend_always_retry")
    return sorted(name for name in of_results if given[name] != package.get(name))


def warn_of_unused(given: Mapping[str, Any], app: str) -> None:
    """Say which settings of the application nothing reads. Meant for the start of a worker or beat."""
    if names := unused(given):
        log.warning(
            "celery_settings_unused",
            app=app,
            settings=names,
            reason="Results are in PostgreSQL, with their runs, for CGK_HISTORY_DAYS. Leave these settings out.",
        )
