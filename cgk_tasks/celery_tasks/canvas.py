"""Celery's canvas on runs: links, chains, groups and chords are kept with the run and go on when it closes.

Everything here happens inside the transaction that closes the run, so a worker that dies loses no link. The run's own
end stands whatever happens to what follows: a signature that cannot be sent is recorded as a failed run (NOT_SENT),
and the rest of its chain and its chord fail instead of waiting for ever.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import structlog
from celery import current_app
from celery.app.task import Context
from celery.canvas import maybe_signature
from celery.exceptions import TaskRevokedError

from cgk_tasks.celery_tasks import groups, signalled_end, task_notes
from cgk_tasks.celery_tasks.arguments import arguments_of, as_json, result_of
from cgk_tasks.celery_tasks.request import request_of
from cgk_tasks.celery_tasks.upstream_failed import NOT_SENT
from cgk_tasks.errors import JobTimeoutError, RunCancelledError, UnknownTenantError
from cgk_tasks.events.registry import find_event
from cgk_tasks.flow import after_cancel
from cgk_tasks.flow.accept import current_unit
from cgk_tasks.flow.send_rules import key_fields
from cgk_tasks.runs import store
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.ends import Closed
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.runs.sealing import Kind, seal
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.context import find_current_tenant, platform_context, tenant_context

if TYPE_CHECKING:
    from celery import Celery

    from cgk_tasks.celery_tasks.result_backend import RunResultBackend
    from cgk_tasks.worker.outcome import Outcome

log = structlog.get_logger("cgk_tasks.canvas")

_KEPT = (
    "link", "link_error", "chain", "chord", "group_id", "root_id", "parent_id", "headers",
    "stamped_headers", "replaced_task_nesting", "errback", "time_limit", "soft_time_limit",
)  # fmt: skip


def kept(options: Mapping[str, Any], priority: int | None = None) -> str | None:
    """What a signature's options ask for beyond the run itself, as JSON; None if nothing.

    priority: the sender's, where the run's does not lead back to it.
    """
    found = {name: _listed(name, options[name]) for name in _KEPT if options.get(name)}
    if options.get("group_index") is not None:
        found["group_index"] = options["group_index"]  # the first member's is 0
    if stamped := options.get("stamped_headers"):
        found["stamps"] = options.get("stamps") or {name: options[name] for name in stamped if name in options}
    task_id = options.get("task_id")
    if task_id and run_id_of(task_id) != task_id:
        found["task_id"] = task_id  # the task sees the id that it was sent with
    if priority is not None:
        found["priority"] = priority  # and the number
    return encode(found, keep_types=True) if found else None


def _listed(name: str, value: Any) -> Any:
    if name in {"link", "link_error"} and not isinstance(value, list | tuple):
        value = [value]
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else as_json(value)


class CanvasFollow:
    """What follows in Celery's canvas from the runs that a worker ends; for the recorder."""

    def __init__(self, app: Celery[Any]) -> None:
        self._app = app

    def run(self, run: Claimed, outcome: Outcome) -> None:
        follow(self._app, run, outcome)

    def closed(self, closed: Iterable[Closed]) -> None:
        """Parents that their last child closed. Runs that an attempt closed are among them, and have been followed."""
        follow_closed([run for run in closed if run.has_canvas], self._app)


def follow(app: Celery[Any], run: Claimed, outcome: Outcome) -> None:
    """Send what follows a run that a worker closed.

    Completed: its links, the next task of its chain, the body of its chord. Not completed: its error links, and the
    failure of the chain's rest and of the chord. A run that raised Ignore: nothing, as in Celery, but its chord counts
    it with null.
    """
    if run.canvas is None:
        return
    backend: Any = app.backend
    error = outcome.exception
    if outcome.kind != "completed":
        cause = error if error and outcome.kind != "cancelled" else TaskRevokedError("cancelled")
        _follow(app, run, lambda request: _failed(backend, request, cause))
    elif error is None:
        _follow(app, run, lambda request: _completed(backend, request, outcome.value))
    else:
        _follow(app, run, lambda request: backend.mark_as_done(request.id, None, request))


def follow_closed(closed: Iterable[Closed], app: Celery[Any] | None = None) -> None:
    """Do what Celery does when runs have closed without a worker of their own: call their tasks' hooks, send its
    signals, and send what follows them.

    They were cancelled while they waited, expired, or a poison pill; or the parents of an event's several jobs.
    """
    for run in closed:
        if run.has_canvas or signalled_end.concerns(run):
            _follow_one(app or current_app, run)


def _follow_cancelled(closed: Iterable[Closed]) -> None:
    """The same for runs that a send has cancelled, in whatever process that is."""
    app: Any = current_app
    if not hasattr(app, "routing"):  # Celery's own default: the sender has no application of ours in use
        import cgk_tasks

        app = cgk_tasks.app
    follow_closed(closed, app)


after_cancel.tell(_follow_cancelled)


def announce_failed(app: Celery[Any], run: Claimed, error: BaseException | None) -> None:
    """Tell a run's task, and the receivers of signals, that it failed here, in the worker's main process."""
    _follow(app, run, lambda request: signalled_end.announce(app, request, "failed", error))


def _follow_one(app: Celery[Any], closed: Closed) -> None:
    unit = current_unit()
    found = store.record_of(closed.id, unit.connection if unit else None)
    if found is None:
        return
    values: dict[str, Any] = {name: found.get(name) for name in _CLAIMED}
    kinds: tuple[Kind, ...] = ("payload", "canvas")
    for kind in kinds:
        values[f"sealed_{kind}"] = seal(found["tenant_id"], kind, found[kind], found["key_id"])
    run, backend = Claimed(**values), cast("RunResultBackend", app.backend)
    if found["state"] == "completed":
        _follow(app, run, lambda request: _completed(backend, request, result_of(found)))
        return
    error = backend.error_of(found)

    def failed(request: Context) -> None:
        signalled_end.announce(app, request, found["state"], error)
        if run.sealed_canvas is not None:
            _failed(backend, request, error)

    _follow(app, run, failed)


_CLAIMED = Claimed._fields


def _follow(app: Celery, run: Claimed, action: Callable[[Context], None]) -> None:
    """Do what follows for the run's tenant. If that itself breaks, fail what waits for the run; never lose its end."""
    args, kwargs = arguments_of(run) if find_event(run.event) is None else ((), key_fields(run.payload))
    request = request_of(run, args, kwargs, run.event)
    try:
        with _for_tenant(run.tenant_id):
            error = _guarded(run, lambda: action(request))
            if error is not None:
                _guarded(run, lambda: _failed(cast("RunResultBackend", app.backend), request, error))
    except UnknownTenantError:
        log.exception("continuation_without_tenant", run=run.id, tenant=run.tenant_id)


def _guarded(run: Claimed, action: Callable[[], None]) -> Exception | None:
    try:
        with groups.savepoint():
            action()
    except (RunCancelledError, JobTimeoutError):
        raise
    except Exception as exc:
        if postgres.is_away(exc):
            raise
        log.exception("continuation_failed", run=run.id, event=run.event)
        return exc
    return None


@contextmanager
def _for_tenant(tenant_id: str) -> Iterator[None]:
    """The tenant's context, whatever context the supervisor, or who cancels a run, is in."""
    here = find_current_tenant()
    if here is not None and here.id == tenant_id:
        yield
        return
    with platform_context(), tenant_context(tenant_id):
        yield


def _completed(backend: RunResultBackend, request: Context, value: Any) -> None:
    children: list[Any] = []
    for link in request.callbacks or ():
        signature: Any = maybe_signature(link, app=backend.app)
        error = backend.send_next(signature, (value,), request, children=children)
        if error is not None:
            backend.fail_upstream(signature.clone((value,)), error, code=NOT_SENT)
    if request.chain:
        *rest, following = cast("list[Any]", request.chain)
        signature = maybe_signature(following, app=backend.app)
        error = backend.send_next(signature, (value,), request, children=children, chain=rest)
        if error is not None:
            backend.fail_upstream(signature.clone((value,)), error, code=NOT_SENT)
            backend._fail_chain(rest, error)  # noqa: SLF001 - Celery names it so
    if children:
        with groups.joined() as connection:
            task_notes.note_children(str(request.id), children, connection)
    backend.mark_as_done(str(request.id), value, request)


def _failed(backend: RunResultBackend, request: Context, error: Any) -> None:
    trace = "".join(traceback.format_exception(error))
    cancelled = isinstance(error, TaskRevokedError) and error.args == ("cancelled",)
    backend.mark_as_failure(str(request.id), error, trace, request, call_errbacks=not cancelled)
