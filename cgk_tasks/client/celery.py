"""The real provider: runs in PostgreSQL, dispatched to Celery workers."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

import psycopg

from cgk_tasks.broker.envelope import payload_message
from cgk_tasks.broker.publisher import get_patient_publisher, get_publisher
from cgk_tasks.broker.without import refuse_without_record
from cgk_tasks.client.provider import Health, Send, blame_item, blaming_item
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, RunStateError, UnknownRunError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.flow.accept import accept
from cgk_tasks.flow.bulk import accept_alike
from cgk_tasks.flow.crowded import MANY
from cgk_tasks.flow.drafts import Drafts
from cgk_tasks.flow.new_run import NewRuns, SendOptions, new_run
from cgk_tasks.flow.quota import are_limited, counted
from cgk_tasks.flow.together import Alone, loop_sends, may_go_together
from cgk_tasks.jobs.types import Handler
from cgk_tasks.runs import store
from cgk_tasks.runs.models import CLOSED_STATES, NewRun, RunHandle, RunStatus
from cgk_tasks.runs.plain_columns import search_fields_of
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy import registry

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cgk_tasks.broker.answers import Answer

T = TypeVar("T")


class CeleryProvider:
    """Imports for its other methods what a send has no use for: most programs only send."""

    name = "celery"

    @property
    def version(self) -> str:
        from importlib.metadata import version

        return version("celery")

    def send(self, event: TenantEvent, options: SendOptions, session: Session | None = None) -> RunHandle:
        run = _run_of(event, options)
        if event.durable:
            return _accepted([run], session)[0]
        self._publish_telemetry([run])
        return RunHandle(run.id)

    def send_batch(self, events: Sequence[Send], session: Session | None = None) -> list[RunHandle]:
        return self._accepted(_drafts(events, is_batch=len(events) > 1), session)

    def send_each(self, events: Iterable[Send]) -> list[RunHandle]:
        """The same, of which each is checked and let go before the next one is taken."""
        drafts = _drafts(events, is_batch=True)
        if not drafts:
            return []
        with blaming_item(drafts.options):
            return self._accepted(drafts)

    async def asend_batch(self, events: Sequence[Send]) -> list[RunHandle]:
        """The same for an event loop: in a thread, together with what is sent at the same time."""
        if len(events) >= MANY or not may_go_together() or not all(event.durable for event, _options in events):
            return await asyncio.to_thread(self.send_batch, events)
        outcome = await loop_sends().accept(lambda: _runs(_drafts(events, is_batch=len(events) > 1)))
        if isinstance(outcome, Alone):
            return await asyncio.to_thread(_accepted, list(outcome.runs), None)
        return outcome

    def _accepted(self, drafts: Drafts, session: Session | None = None) -> list[RunHandle]:
        """A handle for each of these sends. Raises what is wrong with one of them."""
        registry.learn(set(drafts.tenants))
        if session is None and (handles := accept_alike(drafts)) is not None:
            return handles
        runs = _runs(drafts)
        if not drafts.telemetry:
            return _accepted(runs, session)
        telemetry = [run for run in runs if run.event in drafts.telemetry]
        accepted = iter(_accepted([run for run in runs if run.event not in drafts.telemetry], session))
        self._publish_telemetry(telemetry)
        return [RunHandle(run.id) if run.event in drafts.telemetry else next(accepted) for run in runs]

    def _publish_telemetry(self, runs: Sequence[NewRun]) -> None:
        if runs:
            get_publisher().publish(
                [payload_message(run.event, run.tenant_id, run.payload, run.queue, run.priority) for run in runs]
            )

    def answer_expected(self) -> AbstractContextManager[Answer]:
        """The answer to what is sent within the block: the worker calls when its run has come to something."""
        from cgk_tasks.broker import answers  # which most senders do not need

        return answers.expected()

    def get_run_status(self, run_id: str) -> RunStatus:
        _check_id(run_id)
        return _talking(lambda: store.get(run_id))

    def cancel(self, run_id: str) -> RunStatus:
        run = self.get_run_status(run_id)
        if run.state in CLOSED_STATES:
            raise RunStateError(run_id, run.state, "cancel")
        import cgk_tasks  # the app, for what follows a cancelled run in Celery's canvas
        from cgk_tasks.celery_tasks.control import cancel_run  # all of Celery, which a send does without

        _talking(lambda: cancel_run(run_id, cgk_tasks.app))
        return self.get_run_status(run_id)

    def signal(
        self, run_id: str, name: str, payload: str, key: str | None = None, session: Session | None = None
    ) -> bool:
        from cgk_tasks.workflows.signals import signal

        _check_id(run_id)
        return _talking(lambda: signal(run_id, name, payload, key, session))

    def retry(self, run_id: str) -> RunHandle:
        from cgk_tasks.flow.replay import replay

        _check_id(run_id)
        return _talking(lambda: replay(run_id))

    def replay_from(self, run_id: str, step: str) -> RunHandle:
        from cgk_tasks.flow.replay import replay

        _check_id(run_id)
        return _talking(lambda: replay(run_id, from_step=step))

    def register_handler(self, event: str, handler: Handler) -> None:
        from cgk_tasks.jobs.registry import Job, add_job

        add_job(Job(id=f"{event}:{getattr(handler, '__qualname__', 'handler')}", event=event, handler=handler))

    def is_configured(self) -> bool:
        settings = get_settings()
        return settings.database_url is not None and settings.broker_url is not None

    def health_check(self) -> Health:
        return _health(self._ask_record, lambda: get_patient_publisher().ping())

    def can_send(self) -> Health:
        """Whether PostgreSQL takes runs. The broker is not asked: they wait in PostgreSQL while it is away."""
        return _health(self._ask_record)

    def _ask_record(self) -> None:
        with postgres.autocommit() as connection:
            connection.execute("SELECT 1 FROM cgk.runs LIMIT 1")

    def close(self) -> None:
        postgres.close_pools()
        registry.forget_known()


def _run_of(event: TenantEvent, options: SendOptions) -> NewRun:
    """The run of one send. Raises what is wrong with it."""
    if not event.durable:
        refuse_without_record(event.event_name)
    text, fields = event.to_json().decode(), search_fields_of(event)
    return new_run(event.event_name, event.tenant_id, text, options, search_fields=fields)


def _drafts(sends: Iterable[Send], *, is_batch: bool) -> Drafts:
    """Raises what is wrong with one of them. is_batch: whether that says which."""
    drafts = Drafts()
    add = drafts.add
    for position, (event, options) in enumerate(sends):
        try:
            add(event, options)
        except CgkTasksError as exc:
            if is_batch:
                blame_item(exc, position)
            raise
    return drafts


def _runs(drafts: Drafts) -> list[NewRun]:
    """The same of the runs of these sends."""
    make, runs = NewRuns().make, []
    for position, draft in enumerate(drafts):
        try:
            runs.append(make(*draft))
        except CgkTasksError as exc:
            if len(drafts) > 1:
                blame_item(exc, position)
            raise
    return runs


def _accepted(runs: list[NewRun], session: Session | None) -> list[RunHandle]:
    """A handle for each of these runs, which count for tenants that may not send any number."""
    if not are_limited(runs):
        return accept(runs, session)
    with counted(runs) as sends:
        handles = accept(runs, session)
        sends.made(runs, handles)
    return handles


def _health(*questions: Callable[[], object]) -> Health:
    begun = time.monotonic()
    try:
        for ask in questions:
            ask()
    except psycopg.Error as exc:
        return Health.of(postgres.explain(exc))
    except CgkTasksError as exc:
        return Health.of(exc)
    return Health(True, latency_seconds=time.monotonic() - begun)


def _check_id(run_id: object) -> None:
    try:
        uuid.UUID(str(run_id))
    except ValueError:
        raise UnknownRunError(str(run_id)) from None


def _talking(action: Callable[[], T]) -> T:
    """Run a read or write of the record; an error of the driver becomes a StoreError that says what to do."""
    try:
        return action()
    except psycopg.Error as exc:
        raise postgres.explain(exc) from exc
