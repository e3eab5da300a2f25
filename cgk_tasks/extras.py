"""The extras of the package: which modules come with which, and the error where one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Final

from cgk_tasks.errors import ConfigurationError

EXTRAS: Final[Mapping[str, Mapping[str, str]]] = {
    "worker": {"sqlalchemy": "sqlalchemy", "prometheus_client": "prometheus-client"},
    "beat": {"django_celery_beat": "django-celery-beat", "sqlalchemy": "sqlalchemy"},
    "dashboard": {"flower": "flower", "tornado": "tornado", "sqlalchemy": "sqlalchemy"},
    "notify": {"apprise": "apprise", "jinja2": "jinja2", "cryptography": "cryptography"},
    "webhooks": {"httpx": "httpx", "standardwebhooks": "standardwebhooks", "cryptography": "cryptography"},
    "hosted": {"httpx": "httpx"},
    "gateway": {"starlette": "starlette", "uvicorn": "uvicorn", "itsdangerous": "itsdangerous"},
    "migrate": {"alembic": "alembic", "sqlalchemy": "sqlalchemy"},
    "embedded": {"psutil": "psutil"},
}
"""For each extra its modules, and the distributions that they come from."""


@cache
def require_extra(extra: str, what: str) -> None:
    """Check that an extra is installed before its modules are imported; `what` begins the error's sentence.

    Nothing is imported or caught: an error inside one of the modules shows as it is. Raises ConfigurationError.
    """
    for module, distribution in EXTRAS[extra].items():
        if find_spec(module) is None:
            raise _missing(what, distribution, extra)


def explain_missing(exc: ModuleNotFoundError) -> ConfigurationError | None:
    """What a failed import means, if a module of one of our extras was not found. None: it is another's."""
    name = (exc.name or "").partition(".")[0]
    if exc.name != name:
        return None  # a part of a package that is there
    for extra, modules in EXTRAS.items():
        if name in modules:
            return _missing("This", modules[name], extra)
    return None


def _missing(what: str, distribution: str, extra: str) -> ConfigurationError:
    return ConfigurationError(f"{what} needs {distribution}: pip install 'cgk-tasks[{extra}]'")
