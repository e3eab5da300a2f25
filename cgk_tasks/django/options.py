"""What `OPTIONS` of a backend says in the setting TASKS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from django.utils.module_loading import import_string

from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import ConfigurationError, TenantMissingError
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.models import Tenant

TenantOf = Callable[[Any, Sequence[Any], Mapping[str, Any]], "str | Tenant"]

_NAMES: Final = ("TENANT", "DATABASE", "MAX_ATTEMPTS")


@dataclass(frozen=True)
class Options:
    """TENANT: a function, or the path of one, which is given the task, its args and its kwargs, and returns whose task
    it is. DATABASE: the alias of the database in whose transaction tasks are enqueued. MAX_ATTEMPTS: of a task, the
    first one included.
    """

    alias: str
    tenant: TenantOf | str | None = None
    database: str = "default"
    max_attempts: int | None = None

    @classmethod
    def of(cls, alias: str, given: Mapping[str, Any]) -> Options:
        """Raises ConfigurationError for what is no option."""
        for name, value in given.items():
            problem = _problem(name, value)
            if problem is not None:
                raise ConfigurationError(f"TASKS[{alias!r}]['OPTIONS']: {problem}")
        return cls(alias, **{name.lower(): value for name, value in given.items()})

    def tenant_of(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Whose run it is to be. Raises TenantMissingError."""
        resolve = self._resolve
        found = find_current_tenant() if resolve is None else resolve(task, args, kwargs)
        if not found:
            raise TenantMissingError(f"The task {task.module_path}")
        return found.id if isinstance(found, Tenant) else found

    @cached_property
    def _resolve(self) -> TenantOf | None:
        """Imported at the first use: the module may need what Django has not set up when it reads its settings."""
        if not isinstance(self.tenant, str):
            return self.tenant
        try:
            function: TenantOf = import_string(self.tenant)
        except ImportError as exc:
            raise ConfigurationError(
                f"TASKS[{self.alias!r}]['OPTIONS']: TENANT names {self.tenant!r}, which cannot be imported: {exc}"
            ) from exc
        return function


def _problem(name: str, value: Any) -> str | None:
    if name not in _NAMES:
        return f"there is no {name!r}. There are: {', '.join(_NAMES)}. {did_you_mean(name, _NAMES)}".strip()
    if name == "TENANT" and not (callable(value) or isinstance(value, str)):
        return f"TENANT must be a function or the path of one, not {value!r}"
    if name == "DATABASE" and not isinstance(value, str):
        return f"DATABASE must be an alias in DATABASES, not {value!r}"
    if name == "MAX_ATTEMPTS" and (type(value) is not int or not 1 <= value <= 10_000):
        return f"MAX_ATTEMPTS must be a whole number from 1 to 10000, not {value!r}"
    return None
