"""What the providers of hosted systems have in common: events are checked here, and run there.

They are for a move: a team that still runs Inngest or Trigger.dev sends through them first, and switches to Celery
later. An option that only tunes a run and that the system does not know is left out, with a warning; one that promises
something is refused.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar, NoReturn

import structlog

from cgk_tasks.client.hosted_http import Connection
from cgk_tasks.client.hosted_memory import Key, SentKeys, SentRuns, key_of
from cgk_tasks.client.provider import Health, checked_runs
from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    CgkTasksError,
    ConfigurationError,
    IdempotencyConflictError,
    InvalidOptionError,
    ProviderError,
    TenantContextError,
)
from cgk_tasks.events.base import TenantEvent, validate_tenant_id
from cgk_tasks.flow.new_run import SendOptions, new_run
from cgk_tasks.jobs.types import Handler
from cgk_tasks.runs.models import NewRun, RunHandle, RunStatus
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.models import Tenant, presumed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = structlog.get_logger("cgk_tasks.hosted")


class HostedProvider(ABC):
    """Events go to a system that other people run. `title`: its name in errors. `tunes_not`:
    options it does not know.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    tunes_not: ClassVar[tuple[str, ...]]
    keeps_ttl: ClassVar[bool] = True
    """Whether runs can expire there."""
    slowest_look_seconds: ClassVar[float] = 1.0
    """How often `trigger_and_wait` asks for a run's status, after the first few looks."""

    def __init__(self) -> None:
        self._warned: set[str] = set()
        self._keys = SentKeys()
        self._sent = SentRuns()

    @property
    def version(self) -> str:
        return version("cgk-tasks")

    def send(self, event: TenantEvent, options: SendOptions, session: Session | None = None) -> RunHandle:
        return self.send_batch([(event, options)], session)[0]

    def send_batch(
        self, events: Sequence[tuple[TenantEvent, SendOptions]], session: Session | None = None
    ) -> list[RunHandle]:
        """Check all, then send them in as few requests as the system allows. A later request may fail: then the error's
        `accepted` names the runs of the earlier ones. Raises ProviderError.
        """
        if session is not None:
            raise InvalidOptionError(
                "session",
                "needs the celery provider: "
                f"{self.title} would have the event even if your transaction is rolled back.",
                hint="Leave session out, and send after the commit",
            )
        runs = checked_runs(events, self._checked)
        return self._send_fresh(runs, [options for _event, options in events])

    def _send_fresh(self, runs: Sequence[NewRun], options: Sequence[SendOptions]) -> list[RunHandle]:
        """Send those whose idempotency key is new, here and in this batch."""
        earlier = [self._keys.find(run) for run in runs]
        first_of: dict[Key, int] = {}
        fresh = []
        for position, run in enumerate(runs):
            key = key_of(run)
            first = position if key is None else first_of.setdefault(key, position)
            if first == position and earlier[position] is None:
                fresh.append(position)
            elif run.payload != runs[first].payload:
                raise IdempotencyConflictError(run.event, run.idempotency_key or "", runs[first].id)
        handles: dict[int, RunHandle] = {}
        try:
            sending = self._deliver([runs[position] for position in fresh], [options[position] for position in fresh])
            for position, handle in zip(fresh, sending, strict=True):
                handles[position] = handle
                self._remember(runs[position], handle)
        except ProviderError as exc:
            exc.accepted = tuple(handle.id for handle in handles.values())
            if len(runs) > 1:
                exc.add_note(
                    f"{len(handles)} of the {len(runs)} events were accepted before; `accepted` has their runs."
                )
            raise
        found = []
        for position, run in enumerate(runs):
            known, key = earlier[position], key_of(run)
            if position in handles:
                found.append(handles[position])
            elif known is not None:
                found.append(RunHandle(known, deduplicated=True))
            else:
                assert key is not None
                found.append(RunHandle(handles[first_of[key]].id, deduplicated=True))
        return found

    def _remember(self, run: NewRun, handle: RunHandle) -> None:
        self._keys.remember(run, handle.id, get_settings().idempotency_seconds)
        self._sent.remember(run, handle.id)

    def _checked(self, event: TenantEvent, options: SendOptions) -> NewRun:
        tenant = self._tenant(event)
        run = new_run(event.event_name, event.tenant_id, event.to_json().decode(), options, tenant=tenant)
        if not self.keeps_ttl and options.expires is None:
            run = run._replace(expires_at=None)  # it is the job's ttl, and the job is one of that system
        self._refuse_promises(run)
        for option in self.tunes_not:
            if getattr(options, option) is not None and option not in self._warned:
                self._warned.add(option)
                log.warning("option_left_out", option=option, hint=f"{self.title} has no such option for an event.")
        return run

    def _tenant(self, event: TenantEvent) -> Tenant:
        """As the registry knows it, where a database is configured; else any well-formed id is a tenant."""
        if get_settings().database_url is None:
            return presumed(validate_tenant_id(event.tenant_id))
        tenant = registry.require(event.tenant_id)
        if tenant.status == "suspended":
            raise TenantContextError(
                (
                    f"The tenant {tenant.id!r} is suspended, and {self.title} cannot hold its runs back: "
                    f"{event.event_name} was "
                    f"not sent."
                ),
                hint=f"Resume the tenant first: cgk-tasks tenants resume {tenant.id}",
            )
        return tenant

    def _connect(
        self, base_url: str, *, key: str, key_name: str, url_name: str, secrets: Collection[str]
    ) -> Connection:
        """To an API of the system that takes and gives JSON. key: goes along as a bearer token; empty for none."""
        headers = {"Content-Type": "application/json", "User-Agent": "cgk-tasks"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return Connection(
            system=self.title, base_url=base_url, headers=headers, key_name=key_name, url_name=url_name,
            secrets=secrets,
            timeout_seconds=get_settings().provider_timeout_seconds,
        )  # fmt: skip

    def register_handler(self, event: str, handler: Handler) -> NoReturn:
        """Refused: nothing would ever call the handler. Raises ConfigurationError."""
        del handler
        raise ConfigurationError(
            f"{self.title} runs the functions of its own project, not handlers of this process: "
            f"{event} was not registered.",
            hint="Register it there, or set JOBS_PROVIDER=celery (or local).",
        )

    def is_configured(self) -> bool:
        try:
            self._check_settings()
        except ConfigurationError:
            return False
        return True

    def health_check(self) -> Health:
        begun = time.monotonic()
        try:
            self._check_settings()
            self._check_access()
        except CgkTasksError as exc:
            return Health.of(exc)
        return Health(True, latency_seconds=time.monotonic() - begun)

    @abstractmethod
    def _refuse_promises(self, run: NewRun) -> None:
        """Raise InvalidOptionError for an option that promises what the system cannot keep."""

    @abstractmethod
    def _deliver(self, runs: Sequence[NewRun], options: Sequence[SendOptions]) -> Iterator[RunHandle]:
        """Send what was checked, and give a handle for each run as soon as it is accepted. Raises ProviderError."""

    @abstractmethod
    def _check_settings(self) -> None:
        """Raise ConfigurationError for a setting that is missing or has not the form that it must have."""

    @abstractmethod
    def _check_access(self) -> None:
        """Raise ProviderError unless the system can be reached with these keys. Sends nothing."""

    @abstractmethod
    def get_run_status(self, run_id: str) -> RunStatus: ...

    @abstractmethod
    def cancel(self, run_id: str) -> RunStatus: ...

    @abstractmethod
    def retry(self, run_id: str) -> RunHandle: ...

    def replay_from(self, run_id: str, step: str) -> RunHandle:  # noqa: ARG002 - as all providers have it
        """Refused: steps are not kept here."""
        raise InvalidOptionError("from_step", f"is not known to {self.name}: replay the run there.")

    def signal(
        self,
        run_id: str,
        name: str,
        payload: str,  # noqa: ARG002 - as all providers have it
        key: str | None = None,  # noqa: ARG002
        session: Session | None = None,  # noqa: ARG002
    ) -> bool:
        """Refused: workflows there wait for events."""
        raise ProviderError(
            f"{self.name} takes no signals: run {run_id} cannot be sent {name!r}.",
            "INVALID_STATE",
            hint="Send the event that its function waits for. Signals are for workflows of the celery provider.",
        )

    @abstractmethod
    def close(self) -> None: ...


def checked_key(name: str, value: str, *, begins: Collection[str], where: str) -> str:
    """A key of the form that it must have. Raises ConfigurationError, which never quotes it."""
    if not value:
        raise ConfigurationError(f"{name} is not set.", hint=where)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError(
            f"{name} has characters that no key has (spaces, line breaks, accents).", hint="Copy it again."
        )
    if begins and not value.startswith(tuple(begins)):
        raise ConfigurationError(
            f"{name} does not begin with {' or '.join(begins)}.", hint=f"Is it another key? {where}"
        )
    return value


def checked_url(name: str, value: str) -> str:
    """The address of an API, without a slash at its end. Raises ConfigurationError."""
    url = value.strip().rstrip("/")
    scheme, _, rest = url.partition("://")
    if scheme not in {"http", "https"} or not rest or "@" in rest or any(mark in rest for mark in "?# "):
        raise ConfigurationError(f"{name} is not an address such as https://jobs.example.com.", hint="Correct it.")
    return url


def chunks(sizes: Sequence[int], *, most_items: int, most_bytes: int) -> Iterator[range]:
    """Ranges of items that fit into one request each, in their order."""
    first = total = 0
    for position, size in enumerate(sizes):
        if position > first and (position - first == most_items or total + size > most_bytes):
            yield range(first, position)
            first, total = position, 0
        total += size
    if first < len(sizes):
        yield range(first, len(sizes))
