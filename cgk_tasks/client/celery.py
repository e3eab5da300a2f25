"""The real provider: runs in PostgreSQL, dispatched to Celery workers."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

import psycopg

from cgk_tasks.broker.envelope import payload_message
from cgk_tasks.broker.publisher import get_patient_publisher, get_publisher
from cgk_tasks.broker.without import refuse_without_record
from cgk_tasks.client.provider import Health, blame_item
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, RunStateError, UnknownRunError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.flow.accept import accept
from cgk_tasks.flow.crowded import MANY
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
        run = _run_of(event, options, new_run)
        if event.durable:
            return _accepted([run], session)[0]
        self._publish_telemetry([run])
        return RunHandle(run.id)

    def send_batch(
        self, events: Sequence[tuple[TenantEvent, SendOptions]], session: Session | None = None
    ) -> list[RunHandle]:
        return self._accepted(events, *self._prepared(events), session)

    async def asend_batch(self, events: Sequence[tuple[TenantEvent, SendOptions]]) -> list[RunHandle]:
        """The same for an event loop: in a thread, together with what is sent at the same time."""
        if len(events) >= MANY or not may_go_together() or not all(event.durable for event, _options in events):
            return await asyncio.to_thread(self.send_batch, events)
        outcome = await loop_sends().accept(lambda: self._prepared(events)[0])
        if isinstance(outcome, Alone):
            return await asyncio.to_thread(self._accepted, events, list(outcome.runs), [])
        return outcome

    def _prepared(self, events: Sequence[tuple[TenantEvent, SendOptions]]) -> tuple[list[NewRun], list[NewRun]]:
        """The runs of these sends, and the telemetry among them. Raises what is wrong with one of them."""
        registry.learn({event.tenant_id for event, _options in events})
        runs: list[NewRun] = []
        telemetry: list[NewRun] = []
        make = NewRuns().make
        for position, (event, options) in enumerate(events):
            try:
                run = _run_of(event, options, make)
            except CgkTasksError as exc:
                if len(events) > 1:
                    blame_item(exc, position)
                raise
            (runs if event.durable else telemetry).append(run)
        return runs, telemetry

    def _accepted(
        self,
        events: Sequence[tuple[TenantEvent, SendOptions]],
        runs: list[NewRun],
        telemetry: list[NewRun],
        session: Session | None = None,
    ) -> list[RunHandle]:
        handles = _accepted(runs, session)
        if not telemetry:
            return handles
        accepted = iter(handles)
        self._publish_telemetry(telemetry)
        sent = {run.id: RunHandle(run.id) for run in telemetry}
        return [sent[run.id] if run.id in sent else next(accepted) for run in _in_order(events, runs, telemetry)]

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


def _run_of(event: TenantEvent, options: SendOptions, make: Callable[..., NewRun]) -> NewRun:
    """The run of one send. make: `new_run`, or that of a `NewRuns`. Raises what is wrong with the send."""
    if not event.durable:
        refuse_without_record(event.event_name)
    text, fields = event.to_json().decode(), search_fields_of(event)
    return make(event.event_name, event.tenant_id, text, options, search_fields=fields)


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


def _in_order(
    events: Sequence[tuple[TenantEvent, SendOptions]], runs: list[NewRun], telemetry: list[NewRun]
) -> list[NewRun]:
    durable, rest = iter(runs), iter(telemetry)
    return [next(durable) if event.durable else next(rest) for event, _options in events]


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
