"""Celery's result backend on the record of runs: `AsyncResult(id).get()` reads the run, chords count in PostgreSQL.

Workers store no second copy of a result. What Celery asks a backend to do when a task ends (count a chord's member,
fail the rest of a chain, call error links) happens here, in the transaction that closes the run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

import structlog
from celery import group, states
from celery.app.task import Context
from celery.backends.base import BaseBackend, _result_errbacks  # type: ignore[attr-defined]  # private names
from celery.canvas import Signature, _chain, _chord, maybe_signature  # type: ignore[attr-defined]
from celery.exceptions import ChordError, NotRegistered, TaskRevokedError
from celery.result import GroupResult, result_from_tuple
from kombu.utils.functional import maybe_list

from cgk_tasks import postgres
from cgk_tasks.errors import CgkTasksError, JobTimeoutError, RunCancelledError, RunFailedError
from cgk_tasks.postgres import Row
from cgk_tasks.runs import groups, store
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.envelope import TENANT_HEADER
from cgk_tasks.runs.models import State, run_id_of
from cgk_tasks.runs.sender import current_unit
from cgk_tasks.runs.unsent import NOT_SENT, PREDECESSOR_FAILED, record_unsent
from cgk_tasks.tenancy.context import find_current_tenant, tenant_context

log = structlog.get_logger("cgk_tasks.canvas")

CELERY_STATES: dict[State, str] = {
    "scheduled": states.PENDING,
    "pending": states.PENDING,
    "held": states.PENDING,
    "running": states.STARTED,
    "retrying": states.RETRY,
    "completed": states.SUCCESS,
    "failed": states.FAILURE,
    "expired": states.FAILURE,
    "unhandled": states.FAILURE,
    "cancelled": states.REVOKED,
}


class RunResultBackend(BaseBackend):
    """Reads runs; stores nothing of its own but the groups that are open."""

    app: Any
    persistent = True

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        unit = current_unit()
        row = store.find(run_id_of(task_id), unit.connection if unit else None)
        if row is None:
            return {"status": states.PENDING, "result": None, "task_id": task_id, "children": []}
        status = CELERY_STATES[row["state"]]
        errors = row["errors"]
        return {
            "status": status,
            "result": self.error_of(row) if status in states.EXCEPTION_STATES else decode(row["result"]),
            "traceback": errors[-1].get("traceback") if errors else None,
            "task_id": task_id,
            "name": row["event"],
            "date_done": row["closed_at"],
            "children": [],
        }

    def get_task_meta(self, task_id: str, cache: bool = True) -> Any:
        """The state and result of a run. Not cached while a transaction is open that may still roll back."""
        return super().get_task_meta(task_id, cache and current_unit() is None)

    def error_of(self, row: Row) -> BaseException:
        """Why a run did not complete, or its last attempt failed: the original exception where its class is known."""
        if row["state"] == "cancelled":
            return TaskRevokedError("cancelled")
        if row["state"] == "expired":
            return TaskRevokedError("expired")
        error = row["errors"][-1] if row["errors"] else {}
        if "args" in error:
            stored = {"exc_type": error["type"], "exc_module": error["module"], "exc_message": error["args"]}
            known: BaseException = self.exception_to_python(stored)
            return known
        code = row["error_code"] or error.get("code") or row["state"].upper()
        return RunFailedError(row["id"], code, error.get("message") or _REASONS.get(code, "it did not complete"))

    def exception_to_python(self, exc: Any) -> Any:
        """The exception again, of its own class even if that cannot be called with the arguments that it kept."""
        known = super().exception_to_python(exc)
        if isinstance(exc, dict) and (
            isinstance(known, CgkTasksError) or type(known).__qualname__ != exc.get("exc_type")
        ):
            return _without_constructor(exc) or known
        return known

    # ---- writing: the record of runs has it all --------------------------------------------------------------------

    def _store_result(self, *_arguments: Any, **_options: Any) -> None:
        """Nothing: runs are closed by the worker, and `durable=False` tasks leave no trace."""

    def _forget(self, task_id: str) -> None:
        """Nothing: the history of runs is kept for CGK_HISTORY_DAYS."""

    # ---- groups ----------------------------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: GroupResult) -> GroupResult:
        groups.save_results(group_id, result.as_tuple())
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        tree = groups.find_results(group_id)
        return {"result": result_from_tuple(tree, app=self.app)} if tree is not None else None

    def _delete_group(self, group_id: str) -> None:
        groups.drop(group_id)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        groups.set_size(group_id, chord_size)

    def add_to_chord(self, chord_id: str, result: Any) -> None:  # noqa: ARG002 - Celery's signature
        groups.add_member(chord_id)

    def apply_chord(self, header_result_args: Any, body: Any, **_options: Any) -> None:  # noqa: ARG002
        """Keep the shape of a nested header: the body gets the results in that shape."""
        group_id, results = header_result_args
        if type(results) is list and any(isinstance(result, GroupResult) for result in results):
            groups.save_results(group_id, GroupResult(group_id, results).as_tuple())

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_options: Any) -> None:
        """Count a chord's member; after the last one send the body, or fail it if a member failed."""
        if not request.group or not request.id:
            return
        failed = state in states.PROPAGATE_STATES
        member = groups.Member(
            request.group,
            run_id_of(request.id),
            request.group_index,
            None if failed else encode(result),
            f"Dependency {request.id} raised {result!r}" if failed else None,
        )
        with self._tenant_of(request), groups.joined() as connection:
            ended = groups.close_member(connection, member)
            if ended is not None:
                self._finish_chord(ended, maybe_signature(request.chord, app=self.app), request)

    def _finish_chord(self, ended: groups.Ended, body: Any, request: Any) -> None:
        reasons = [row["error"] for row in ended.members if row["error"] is not None]
        if reasons:
            self.chord_error_from_stack(body, ChordError(reasons[0]))
            return
        values = {row["run_id"]: decode(row["result"]) for row in ended.members}
        error = self.send_next(body, (_shaped(ended.tree, values) if ended.tree else list(values.values()),), request)
        if error is not None:
            self.chord_error_from_stack(body, ChordError(f"Callback error: {error!r}"))

    # ---- what follows ----------------------------------------------------------------------------------------------

    def send_next(
        self, signature: Any, args: tuple[Any, ...], request: Any, **options: Any
    ) -> Exception | None:
        """Send what follows a run. Returns the error if it cannot be sent; then nothing of it was."""
        inherited = self.app.conf.task_inherit_parent_priority and request.delivery_info
        try:
            with groups.savepoint():
                signature.apply_async(
                    args,
                    parent_id=request.id,
                    root_id=request.root_id or request.id,
                    priority=request.delivery_info.get("priority") if inherited else None,
                    **options,
                )
        except (RunCancelledError, JobTimeoutError):
            raise
        except Exception as exc:
            if postgres.is_away(exc):
                raise
            log.exception("continuation_not_sent", task=signature.task, after=request.id)
            return exc
        return None

    def fail_unsent(
        self,
        signature: Any,
        error: BaseException,
        *,
        code: str = PREDECESSOR_FAILED,
        outer: Any = None,
        counts: bool = True,
    ) -> None:
        """Record every run of a signature that will not be sent as failed, and count it in the chord it belongs to.

        outer: options of the chord around it, where the signature's parts do not name it. counts: False for members
        of a chord's own header, whose group was never opened.
        """
        sig: Any = maybe_signature(signature, app=self.app)
        own = {name: sig.options[name] for name in _CHORD_OPTIONS if sig.options.get(name) is not None}
        around = {**(outer or {}), **own}
        if isinstance(sig, _chord):
            for task in getattr(sig.tasks, "tasks", sig.tasks):
                self.fail_unsent(task, error, code=code, counts=False)
            self.fail_unsent(sig.body, error, code=code, outer=around, counts=counts)
        elif isinstance(sig, group):
            for task in sig.tasks:
                self.fail_unsent(task, error, code=code, outer=around, counts=counts)
        elif isinstance(sig, _chain):
            for task in sig.tasks[:-1]:
                self.fail_unsent(task, error, code=code, counts=False)
            for task in sig.tasks[-1:]:
                self.fail_unsent(task, error, code=code, outer=around, counts=counts)
        else:
            tenant = find_current_tenant()
            if tenant is not None:
                record_unsent(sig, tenant.id, error, code)
            if counts and around.get("chord"):
                part = Context(
                    id=sig.options.get("task_id"), group=around.get("group_id"), chord=around["chord"],
                    group_index=around.get("group_index"), delivery_info={},
                )  # fmt: skip
                self.on_chord_part_return(part, states.FAILURE, error)

    def _fail_chain(self, chain: Iterable[Any] | None, exc: Any, *_arguments: Any, **_options: Any) -> None:
        for signature in chain or ():
            self.fail_unsent(signature, exc)

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> None:  # type: ignore[override]
        """Fail a chord's body, what comes after it, and the chord around it; then call the body's error links."""
        self.fail_unsent(callback, exc)
        self._fail_chain(callback.options.get("chain"), exc)
        if isinstance(callback, group):
            own = maybe_list(callback.options.get("link_error")) or []
            linked = [(task_id, [*links, *own]) for task_id, links in self._errbacks_of(callback.tasks)]
        else:
            linked = self._errbacks_of([callback])
        for task_id, errbacks in linked:
            unique = [link for at, link in enumerate(errbacks) if link not in errbacks[:at]]
            request = Context(id=task_id, errbacks=unique, task=callback.task, delivery_info={}, args=[], kwargs={})
            self._call_task_errbacks(request, exc, None)

    def _errbacks_of(self, tasks: Iterable[Any]) -> list[tuple[str, list[Any]]]:
        return [_result_errbacks(task, self.app) for task in tasks]

    def _call_task_errbacks(self, request: Any, exc: Any, traceback: Any) -> None:
        """Send error links as runs, those that take (request, exc, traceback) as well: none is lost or runs twice."""
        if self.app.conf.task_always_eager or (request.delivery_info or {}).get("is_eager"):
            super()._call_task_errbacks(request, exc, traceback)  # type: ignore[misc]
            return
        for errback in request.errbacks or ():
            signature: Any = maybe_signature(errback, app=self.app)
            if self._takes_the_error(signature):
                args: tuple[Any, ...] = (_described(request), self.prepare_exception(exc), traceback)
                error = self.send_next(signature, args, request, errback=True)
            else:
                error = self.send_next(signature, (request.id,), request)
            if error is not None:
                self.fail_unsent(signature, error, code=NOT_SENT)

    def _takes_the_error(self, errback: Signature[Any]) -> bool:
        """Celery's rule: an error link with more than one free argument gets the error itself, not the task's id."""
        try:
            header = getattr(errback.type, "__header__", None)
        except NotRegistered:
            return False
        if header is None or isinstance(header, partial) or errback.immutable:
            return False
        takes: bool = self._errback_arity_greater(errback, 1)  # type: ignore[attr-defined]
        return takes

    def _tenant_of(self, request: Any) -> Any:
        """The tenant's context; a `durable=False` task's tenant is in its message only."""
        tenant_id = (request.headers or {}).get(TENANT_HEADER)
        return nullcontext() if tenant_id is None or find_current_tenant() is not None else tenant_context(tenant_id)


_CHORD_OPTIONS = ("chord", "group_id", "group_index")

_REASONS = {
    "POISON_PILL": "it ended its process too many times",
    "NO_JOB": "no job is registered for this event",
    "CHILD_NOT_COMPLETED": "one of its jobs did not complete",
}


def _without_constructor(stored: dict[str, Any]) -> BaseException | None:
    """An exception whose class is known here, made without its constructor; None if it does not work so."""
    found: Any = sys.modules.get(stored.get("exc_module") or "")
    for name in stored["exc_type"].split("."):
        found = getattr(found, name, None)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        return None
    try:
        exc: BaseException = found.__new__(found)
        exc.args = tuple(stored["exc_message"])
        str(exc), repr(exc)
    except Exception:  # noqa: BLE001 - its text needs what the constructor would have set
        return None
    return exc


def _shaped(tree: Any, values: dict[str, Any]) -> Any:
    """The members' results in the shape of a nested group: Celery's tuple is ((id, parent), children or None)."""
    (task_id, _parent), children = tree
    if children is None:
        return values.get(run_id_of(task_id))
    return [_shaped(child, values) for child in children]


def _described(request: Any) -> dict[str, Any]:
    """A request as JSON, for an error link that asks for it."""
    names = ("id", "task", "args", "kwargs", "retries", "root_id", "parent_id", "group", "headers", "delivery_info")
    return {name: getattr(request, name, None) for name in names}
