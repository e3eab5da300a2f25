"""TLS to RabbitMQ, as CGK_BROKER_URL says it and as py-amqp is given it.

Kombu reads from `amqps://` only that there is TLS: the certificate is checked then, but for no name, so that of any
other host would do.
"""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from cgk_tasks.errors import ConfigurationError

_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_FILES: Final = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}
_OPTIONS: Final = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")


def amqp_tls(url: str) -> dict[str, Any] | None:
    """What Kombu's `ssl` and Celery's `broker_use_ssl` are for a URL; None where it is not amqps://.

    Raises ConfigurationError, which never quotes the URL.
    """
    if not url.startswith("amqps://"):
        return None
    given = _options_of(url)
    wanted = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if wanted not in _CERT_REQS:
        raise ConfigurationError("In CGK_BROKER_URL ssl_cert_reqs must be required, optional or none.")
    found: dict[str, Any] = {"cert_reqs": _CERT_REQS[wanted]}
    found |= {name: given[option] for option, name in _FILES.items() if option in given}
    if wanted != "none" and given.get("ssl_check_hostname", "true").lower() != "false":
        # By name: Kombu connects to localhost as 127.0.0.1.
        found["server_hostname"] = unquote(urlsplit(url).hostname or "localhost")
    return found


def without_tls_options(url: str) -> str:
    """The URL as Kombu reads it, which would give these options to py-amqp by names that that does not know."""
    place, _, query = url.partition("?")
    given = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    others = [(name, value) for name, value in given if not name.startswith("ssl_")]
    if len(others) == len(given):
        return url
    if not url.startswith("amqps://"):
        raise ConfigurationError("CGK_BROKER_URL has parameters of TLS (ssl_…), but no TLS: write amqps://.")
    return f"{place}?{urlencode(others)}" if others else place


def _options_of(url: str) -> dict[str, str]:
    given = dict(parse_qsl(url.partition("?")[2].replace("+", "%2B"), keep_blank_values=True))
    found = {name: value for name, value in given.items() if name.startswith("ssl_")}
    if not found.keys() <= set(_OPTIONS):
        raise ConfigurationError(f"CGK_BROKER_URL has parameters of TLS other than {', '.join(_OPTIONS)}.")
    return found
