"""Which catalog of events is in charge: the module that CGK_CATALOG names."""

from functools import cache
from importlib import import_module
from types import ModuleType

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events.base import expect_events

NONE = "none"


@cache
def catalog() -> ModuleType | None:
    """The catalog, imported at first use; None where the application leaves it out. Its events are imported when they
    are first asked for, if it has EVENT_MODULES, which says where they are; which
    of them are not durable is in TELEMETRY then.

    Raises ConfigurationError if CGK_CATALOG names no module.
    """
    name = get_settings().catalog
    if name == NONE:
        return None
    module = _imported(name)
    expect_events(getattr(module, "EVENT_MODULES", {}), getattr(module, "TELEMETRY", ()))
    return module


@cache
def catalog_schedules() -> ModuleType | None:
    """The module `schedules` of the catalog, which has made its schedules known; None if there is none."""
    return _part("schedules")


@cache
def catalog_jobs() -> ModuleType | None:
    """The module `jobs` of the catalog; None if there is none."""
    return _part("jobs")


def _part(name: str) -> ModuleType | None:
    module = catalog()
    if module is None:
        return None
    try:
        return import_module(f"{module.__name__}.{name}")
    except ModuleNotFoundError as exc:
        if exc.name in {module.__name__, f"{module.__name__}.{name}"}:
            return None
        raise


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise ConfigurationError(
                f"CGK_CATALOG names {name!r}, but there is no such module.",
                hint=(f"Check the spelling and PYTHONPATH, or set CGK_CATALOG={NONE} to do without a catalog."),
            ) from exc
        raise
