"""A provider with settings and connections of its own, beside those of the process: a second database, a second
broker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import SecretStr

from cgk_tasks.client.provider import Health, JobProvider, asend_batch, slowest_look_seconds
from cgk_tasks.client.waiting import answer_expected
from cgk_tasks.config import SETTINGS, Settings, get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.jobs.types import Handler
from cgk_tasks.runs.models import RunHandle, RunStatus
from cgk_tasks.runtime import Runtime

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cgk_tasks.broker.answers import Answer


def runtime_with(settings: Settings) -> Runtime:
    """A runtime that these settings were given, where the process's own were read."""
    runtime = Runtime()
    runtime.put(SETTINGS, settings)
    return runtime


def settings_with(database_url: str | None, broker_url: str | None) -> Settings:
    """The settings of the process with other servers. Raises ConfigurationError."""
    given = {name: SecretStr(url) for name, url in (("database_url", database_url), ("broker_url", broker_url)) if url}
    if len(given) == 1:
        raise ConfigurationError(
            "A client with servers of its own needs both: database_url=... and broker_url=...; the workers that "
            "read one of the broker's queues look up its runs in one database."
        )
    return get_settings().model_copy(update=given)


class OwnRuntime:
    """Does everything in a runtime of its own, which it closes."""

    def __init__(self, provider: JobProvider, runtime: Runtime) -> None:
        self._provider, self.runtime = provider, runtime
        self.slowest_look_seconds = slowest_look_seconds(provider)

    @property
    def name(self) -> str:
        return self._provider.name

    @property
    def version(self) -> str:
        return self._provider.version

    def send(self, event: TenantEvent, options: SendOptions, session: Session | None = None) -> RunHandle:
        with self.runtime.active():
            return self._provider.send(event, options, session)

    def send_batch(
        self, events: Sequence[tuple[TenantEvent, SendOptions]], session: Session | None = None
    ) -> list[RunHandle]:
        with self.runtime.active():
            return self._provider.send_batch(events, session)

    async def asend_batch(self, events: Sequence[tuple[TenantEvent, SendOptions]]) -> list[RunHandle]:
        with self.runtime.active():
            return await asend_batch(self._provider, events)

    @contextmanager
    def answer_expected(self) -> Iterator[Answer | None]:
        with self.runtime.active(), answer_expected(self._provider) as answer:
            yield answer

    def get_run_status(self, run_id: str) -> RunStatus:
        with self.runtime.active():
            return self._provider.get_run_status(run_id)

    def cancel(self, run_id: str) -> RunStatus:
        with self.runtime.active():
            return self._provider.cancel(run_id)

    def signal(
        self, run_id: str, name: str, payload: str, key: str | None = None, session: Session | None = None
    ) -> bool:
        with self.runtime.active():
            return self._provider.signal(run_id, name, payload, key, session)

    def retry(self, run_id: str) -> RunHandle:
        with self.runtime.active():
            return self._provider.retry(run_id)

    def replay_from(self, run_id: str, step: str) -> RunHandle:
        with self.runtime.active():
            return self._provider.replay_from(run_id, step)

    def register_handler(self, event: str, handler: Handler) -> None:
        with self.runtime.active():
            self._provider.register_handler(event, handler)

    def is_configured(self) -> bool:
        with self.runtime.active():
            return self._provider.is_configured()

    def health_check(self) -> Health:
        with self.runtime.active():
            return self._provider.health_check()

    def close(self) -> None:
        with self.runtime.active():
            self._provider.close()
        self.runtime.close()
