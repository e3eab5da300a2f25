"""The client: validates events and sends them through a provider. One logic for sync and asyncio applications."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from cgk_tasks.client.own_runtime import OwnRuntime, runtime_with, settings_with
from cgk_tasks.client.provider import (
    Health,
    JobProvider,
    Send,
    SendItem,
    SentItem,
    WaitResult,
    asend_batch,
    blame_item,
    blaming_item,
    slowest_look_seconds,
)
from cgk_tasks.client.waiting import Wait, answer_expected, answered_event, check_timeout
from cgk_tasks.config import HOSTED_PROVIDERS, Settings, get_settings
from cgk_tasks.errors import (
    CgkTasksError,
    ChunkRefusedError,
    ConfigurationError,
    InvalidOptionError,
    PayloadInvalidError,
    UnknownRunError,
)
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import parse_event
from cgk_tasks.extras import require_extra
from cgk_tasks.flow.new_run import NO_OPTIONS, SendOptions
from cgk_tasks.jobs.types import Handler
from cgk_tasks.logger import get_logger
from cgk_tasks.runs.models import RunHandle, RunStatus
from cgk_tasks.runtime import Part, Runtime, current_runtime
from cgk_tasks.tenancy.visibility import may_see, sees_all

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cgk_tasks.broker.answers import Answer

_MANY: Final = 32
"""So many are checked in a thread: an event loop would stand still for a millisecond."""

log = get_logger("cgk_tasks.client")

Payload = Mapping[str, Any] | TenantEvent


@dataclass(frozen=True)
class JobClient:
    """Sends events. `defaults` are options that every send starts from."""

    provider: JobProvider
    defaults: SendOptions = NO_OPTIONS

    @property
    def runtime(self) -> Runtime:
        """What the client works with: settings and connections of its own, if it was made with some, or the process's.

        with client.runtime.active():
            add_tenant("acme")  # in the client's database
        """
        return self.provider.runtime if isinstance(self.provider, OwnRuntime) else current_runtime()

    def send(
        self,
        event: str | TenantEvent,
        payload: Payload | None = None,
        *,
        session: Session | None = None,
        **options: Any,
    ) -> RunHandle:
        """Send one event; see `send_job`."""
        return self.provider.send(_event(event, payload), self._options(options), session)

    def send_batch(self, items: Iterable[SendItem | TenantEvent], *, session: Session | None = None) -> list[RunHandle]:
        """Send all or nothing; see `send_jobs`."""
        checked = self._each_checked(items)
        send_each: Callable[[Iterable[Send]], list[RunHandle]] | None = getattr(self.provider, "send_each", None)
        if send_each is not None and session is None:
            return send_each(checked)
        sends = list(checked)
        if not sends:
            return []
        with blaming_item([options for _, options in sends]):
            return self.provider.send_batch(sends, session)

    async def asend(self, event: str | TenantEvent, payload: Payload | None = None, **options: Any) -> RunHandle:
        """Send one event from an event loop; see `asend_job`."""
        sent = [(_event(event, payload), self._options(options))]
        return (await asend_batch(self.provider, sent))[0]

    async def asend_batch(self, items: Iterable[SendItem | TenantEvent]) -> list[RunHandle]:
        """Send all or nothing from an event loop; see `asend_jobs`. Many are checked in a thread."""
        rest = iter(items)
        few = list(islice(rest, _MANY))
        if len(few) == _MANY:
            return await asyncio.to_thread(self.send_batch, chain(few, rest))
        checked = list(self._each_checked(few))
        if not checked:
            return []
        with blaming_item([options for _, options in checked]):
            return await asend_batch(self.provider, checked)

    def _each_checked(self, items: Iterable[SendItem | TenantEvent]) -> Iterator[Send]:
        has_defaults = self.defaults is not NO_OPTIONS
        for position, item in enumerate(items):
            # A SendItem is asked for first: whether something is a model takes pydantic several times as long.
            one = item if type(item) is SendItem or not isinstance(item, TenantEvent) else SendItem(item)
            try:
                options = self._merged(one.options) if has_defaults else one.options
                event = _event(one.event, one.payload)
            except CgkTasksError as exc:
                blame_item(exc, position)
                raise
            yield event, options

    def send_in_chunks(self, items: Iterable[SendItem | TenantEvent], chunk_size: int = 1_000) -> Iterator[SentItem]:
        """Send any number of events; see `send_jobs_in_chunks`."""
        if chunk_size < 1:
            raise InvalidOptionError("chunk_size", f"must be at least 1, not {chunk_size}")
        return self._chunk_by_chunk(iter(items), chunk_size)

    def _chunk_by_chunk(self, items: Iterator[SendItem | TenantEvent], chunk_size: int) -> Iterator[SentItem]:
        first = 0
        while chunk := list(islice(items, chunk_size)):
            try:
                handles = self.send_batch(chunk)
            except CgkTasksError as exc:
                if exc.item is None:
                    raise  # it is about no item: the database is away, a setting is wrong
                yield from _refused(exc, first, len(chunk))
            else:
                for position, handle in enumerate(handles, first):
                    yield SentItem(position, handle)
            first += len(chunk)

    def trigger_and_wait(
        self, event: str | TenantEvent, payload: Payload | None = None, *, timeout: float = 30.0, **options: Any
    ) -> WaitResult:
        """Send one event and wait for its end; see `trigger_and_wait`."""
        check_timeout(timeout)
        with answer_expected(self.provider) as answer:
            wait = self._wait(self.send(event, payload, **options), timeout, answer)
            while (result := wait.result()) is None:
                wait.pause()
        return result

    async def atrigger_and_wait(
        self,
        event: str | TenantEvent,
        payload: Payload | None = None,
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 - a timeout is a result here, not a cancellation
        **options: Any,
    ) -> WaitResult:
        """The same for asyncio: thousands may wait at once."""
        check_timeout(timeout)
        with answer_expected(self.provider) as answer:
            answered = answered_event(answer)
            wait = self._wait(await self.asend(event, payload, **options), timeout, answer)
            while (result := await wait.aresult()) is None:
                await wait.apause(answered)
        return result

    def _wait(self, handle: RunHandle, timeout: float, answer: Answer | None) -> Wait:
        return Wait(handle, timeout, self.get_run_status, answer, slowest_look_seconds(self.provider))

    def get_run_status(self, run_id: str) -> RunStatus:
        status = self.provider.get_run_status(run_id)
        if not may_see(status.tenant_id):
            raise UnknownRunError(run_id)
        return status

    def cancel(self, run_id: str) -> RunStatus:
        self._require_visible(run_id)
        return self.provider.cancel(run_id)

    def signal(
        self, run_id: str, name: str, payload: Any = None, *, key: str | None = None, session: Session | None = None
    ) -> bool:
        from cgk_tasks.workflows.signals import encoded_signal

        text = encoded_signal(name, payload, key)
        self._require_visible(run_id)
        return self.provider.signal(run_id, name, text, key, session)

    def retry(self, run_id: str, from_step: str | None = None) -> RunHandle:
        self._require_visible(run_id)
        return self.provider.retry(run_id) if from_step is None else self.provider.replay_from(run_id, from_step)

    def _require_visible(self, run_id: str) -> None:
        """For any provider: what it may know of other tenants' runs."""
        if not sees_all():
            self.get_run_status(run_id)

    def register_handler(self, event: str, handler: Handler) -> None:
        self.provider.register_handler(event, handler)

    def is_configured(self) -> bool:
        return self.provider.is_configured()

    def health_check(self) -> Health:
        return self.provider.health_check()

    def can_send(self) -> Health:
        """Whether a send would be accepted now, for the readiness probe of an application that sends. Never raises.

        A broker that is away fails no send, so it is not asked, as `health_check` does. A provider that keeps no record
        here is asked for its health.

            health = get_job_client().can_send()
            if not health.healthy:
                print(health.error, health.hint)
        """
        ask: Callable[[], Health] = getattr(self.provider, "can_send", self.provider.health_check)
        return ask()

    def close(self) -> None:
        self.provider.close()

    def _options(self, given: dict[str, Any]) -> SendOptions:
        if not given:
            return self.defaults
        try:
            return self._merged(SendOptions(**given))
        except TypeError:
            known = {one.name for one in fields(SendOptions)}
            unknown = next(name for name in given if name not in known)
            raise InvalidOptionError(
                unknown, "is not an option of a send.", hint=f"There are: {', '.join(sorted(known))}"
            ) from None

    def _merged(self, options: SendOptions) -> SendOptions:
        if self.defaults is NO_OPTIONS:
            return options
        given = {one.name: value for one in fields(options) if (value := getattr(options, one.name)) is not None}
        merged = replace(self.defaults, **given)
        # An explicit time replaces a default one of the other kind.
        if given.get("run_at") is not None and "delay" not in given:
            merged = replace(merged, delay=None)
        elif given.get("delay") is not None and "run_at" not in given:
            merged = replace(merged, run_at=None)
        return merged


def _refused(exc: CgkTasksError, first: int, count: int) -> Iterator[SentItem]:
    """The results of a chunk in which one item is wrong."""
    assert exc.item is not None
    wrong = exc.item = first + exc.item
    del exc.__notes__[:]  # they count within the chunk
    for position in range(first, first + count):
        yield SentItem(position, error=exc if position == wrong else ChunkRefusedError(wrong, exc))


def _event(event: str | TenantEvent, payload: Payload | None) -> TenantEvent:
    if type(event) is not str and isinstance(event, TenantEvent):
        if payload is not None:
            raise PayloadInvalidError(event.event_name, ["a payload was given beside the event, which carries its own"])
        return event
    return parse_event(event, payload if payload is not None else {})


def create_job_client(
    provider: str | JobProvider | None = None,
    *,
    defaults: SendOptions | None = None,
    settings: Settings | None = None,
    database_url: str | None = None,
    broker_url: str | None = None,
    **provider_settings: Any,
) -> JobClient:
    """A client for a provider: "celery", "local", "inngest", "trigger.dev", or an object of your own. None: what the
    settings say.

    With `settings`, or with `database_url` and `broker_url`, the client has connections of its own: a process can send
    to several databases. Close such a client when it is no longer needed.

    provider_settings go to the provider: the local one takes `tenants`, `concurrency` (5) and `max_queue_size`
    (10000); trigger.dev takes `concurrency_per_tenant` (True). Raises ConfigurationError for an unknown provider or
    setting.
    """
    if settings is None and (database_url or broker_url):
        settings = settings_with(database_url, broker_url)
    elif database_url or broker_url:
        raise ConfigurationError("Give create_job_client either settings or database_url and broker_url, not both.")
    if settings is None:
        return JobClient(_made(provider, provider_settings), defaults or NO_OPTIONS)
    runtime = runtime_with(settings)
    with runtime.active():
        made = _made(provider, provider_settings)
    if made.name == "local":
        made.close()
        raise ConfigurationError(
            "The provider 'local' runs jobs in this process, with its settings; it takes none of its own."
        )
    return JobClient(OwnRuntime(made, runtime), defaults or NO_OPTIONS)


def _made(provider: str | JobProvider | None, provider_settings: dict[str, Any]) -> JobProvider:
    chosen = _chosen() if provider is None else provider
    if not isinstance(chosen, str):
        return chosen
    try:
        return _provider(chosen, provider_settings)
    except TypeError as exc:
        raise ConfigurationError(f"The provider {chosen!r} does not take these settings: {exc}") from None


def _provider(name: str, provider_settings: dict[str, Any]) -> JobProvider:
    if name == "celery":
        from cgk_tasks.client.celery import CeleryProvider

        return CeleryProvider(**provider_settings)
    if name == "local":
        from cgk_tasks.client.local import LocalProvider

        return LocalProvider(**provider_settings)
    if name in HOSTED_PROVIDERS:
        require_extra("hosted", f"The provider {name}")
    if name == "inngest":
        from cgk_tasks.client.inngest import InngestProvider

        return InngestProvider(**provider_settings)
    if name == "trigger.dev":
        from cgk_tasks.client.trigger_dev import TriggerDevProvider

        return TriggerDevProvider(**provider_settings)
    raise ConfigurationError(
        f"There is no provider {name!r}.", hint="Set JOBS_PROVIDER to celery, local, inngest or trigger.dev."
    )


def _chosen() -> str:
    settings = get_settings()
    if settings.provider is not None:
        return settings.provider
    if settings.database_url is not None:
        return "celery"
    log.warning(
        "provider_is_local",
        hint="Neither JOBS_PROVIDER nor CGK_DATABASE_URL is set: jobs run in this process and are lost with it.",
    )
    return "local"


CLIENT = Part(create_job_client, close=JobClient.close, of_settings=False, survives_fork=True)


def get_job_client() -> JobClient:
    """The client of this process, made from the settings at first use."""
    return CLIENT.current()


def set_job_client(client: JobClient) -> JobClient | None:
    """Make `client` the one that `send_job` and the others use. Returns the one before, which stays open."""
    return current_runtime().put(CLIENT, client)


def reset_job_client() -> None:
    """Close the process's client; the next use makes a new one from the settings."""
    current_runtime().drop(CLIENT)
