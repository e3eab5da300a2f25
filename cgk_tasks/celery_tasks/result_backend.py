"""Celery's result backend on the record of runs: `AsyncResult(id).get()` reads the run, chords count in PostgreSQL.

Workers store no second copy of a result. A chord's members are counted in the transaction that closes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from celery import states
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import GroupResult, result_from_tuple

from cgk_tasks.broker.envelope import TENANT_HEADER
from cgk_tasks.celery_tasks import groups, revocations, task_notes
from cgk_tasks.celery_tasks.arguments import extended, result_of
from cgk_tasks.celery_tasks.continuations import Following
from cgk_tasks.celery_tasks.task_notes import Notes
from cgk_tasks.celery_tasks.waiting import Waiting
from cgk_tasks.errors import CgkTasksError, ResultTooLargeError, RunFailedError, RunLostError
from cgk_tasks.flow.accept import current_unit
from cgk_tasks.runs import store, typed_json
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.ended import just_ended
from cgk_tasks.runs.models import State, run_id_of
from cgk_tasks.sql.postgres import Row, autocommit
from cgk_tasks.tenancy.context import find_current_tenant, tenant_context
from cgk_tasks.tenancy.visibility import may_see, sees_all

CELERY_STATES: dict[State, str] = {
    "scheduled": states.PENDING,
    "pending": states.PENDING,
    "held": states.PENDING,
    "running": states.STARTED,  # shown as PENDING unless the task has `track_started`
    "retrying": states.RETRY,
    "completed": states.SUCCESS,
    "failed": states.FAILURE,
    "expired": states.REVOKED,
    "unhandled": states.FAILURE,
    "cancelled": states.REVOKED,
}


class RunResultBackend(Waiting, Following):
    """Reads runs; stores nothing of its own but the groups that are open, and what tasks say of themselves."""

    persistent = True

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        unit = current_unit()
        with nullcontext(unit.connection) if unit else autocommit() as connection:
            row = store.find(run_id_of(task_id), connection)
            notes = task_notes.find(task_id, connection)
        if notes.tenant_id is not None and not may_see(notes.tenant_id):
            notes = Notes()
        if row is None or notes.is_forgotten:
            known = task_notes.keeps(notes.state)
            if row is None and not known and revocations.is_revoked(run_id_of(task_id)):
                revoked = TaskRevokedError("revoked")
                return {"status": states.REVOKED, "result": revoked, "task_id": task_id, "children": []}
            return {
                "status": notes.state if known else states.PENDING, "result": notes.meta if known else None,
                "task_id": task_id, "children": [],
            }  # fmt: skip
        meta = self._meta(task_id, row, notes)
        if self.app.conf.result_extended:
            meta |= extended(row)
        return meta

    def end_told(self, task_id: str) -> dict[str, Any] | None:
        """As `_get_task_meta_for`, of what little has to be read of a run that has just ended."""
        if self.app.conf.result_extended or current_unit() is not None:
            return None
        run_id = run_id_of(task_id)
        end = just_ended([run_id]).get(run_id)
        if end is None or not may_see(end.tenant_id):
            return None
        with autocommit() as connection:
            notes = task_notes.find(task_id, connection)
        errors = [] if end.error is None else [end.error]
        row = {**end._asdict(), "result": end.result_text, "errors": errors}
        return None if notes.is_forgotten else self._meta(task_id, row, notes)

    def _meta(self, task_id: str, row: Row, notes: Notes) -> dict[str, Any]:
        status, result = self._state_of(row, notes)
        errors = row["errors"]
        return {
            "status": status,
            "result": result,
            "traceback": errors[-1].get("traceback") if errors else None,
            "task_id": task_id,
            "name": row["event"],
            "date_done": row["closed_at"],
            "children": notes.children,
        }

    def _state_of(self, row: Row, notes: Notes) -> tuple[str, Any]:
        """Celery's state of a run, and its result, error or information."""
        status = CELERY_STATES[row["state"]]
        if status in states.EXCEPTION_STATES:
            return status, self.error_of(row)
        if status == states.SUCCESS:
            return status, result_of(row)
        retries = row["attempt"] - row["deaths"] - 1
        if task_notes.keeps(notes.state) and (notes.retries is None or notes.retries == retries):
            return str(notes.state), notes.meta
        if status == states.STARTED and self._is_tracked(row["event"]):
            return status, {"pid": row["worker_pid"], "hostname": row["worker_id"]}
        return states.PENDING, None

    def _is_tracked(self, name: str) -> bool:
        """Whether a task says that it has been started: `track_started`, as in Celery."""
        tracked = getattr(self.app.tasks.get(name), "track_started", None)
        return bool(self.app.conf.task_track_started if tracked is None else tracked)

    def get_task_meta(self, task_id: str, cache: bool = True) -> Any:
        """The state and result of a run.

        Not cached while a transaction is open that may still roll back, nor for tenants: each sees its own runs alone.
        """
        return super().get_task_meta(task_id, cache and current_unit() is None and sees_all())

    def is_cached(self, task_id: str) -> bool:
        """Whether the run's end is known without a look: for tenants nothing is."""
        return sees_all() and bool(super().is_cached(task_id))

    def wait_for_pending(  # type: ignore[override]  # Celery calls it by keyword
        self, result: Any, *, propagate: bool = True, **options: Any
    ) -> Any:
        """What `get()` gives. Raises ResultTooLargeError for a result that was not kept."""
        value = super().wait_for_pending(result, propagate=propagate, **options)
        if propagate and isinstance(value, ResultTooLargeError):
            raise value
        return value

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
            if isinstance(known, Exception):
                return known
            # A SystemExit would end whoever asks for the result. In Celery it ends the worker's process.
            return RunLostError(row["id"], row["error_code"] or "", f"it raised {error['type']}: {error['message']}")
        code = row["error_code"] or error.get("code") or row["state"].upper()
        kind = RunLostError if code == "POISON_PILL" else RunFailedError
        return kind(row["id"], code, error.get("message") or _REASONS.get(code, "it did not complete"))

    def exception_to_python(self, exc: Any) -> Any:
        """The exception again, of its own class even if that cannot be called with the arguments that it kept."""
        known = super().exception_to_python(exc)
        if isinstance(exc, dict) and (
            isinstance(known, CgkTasksError) or type(known).__qualname__ != exc.get("exc_type")
        ):
            return _without_constructor(exc) or known
        return known

    # ---- writing: the record of runs has it all --------------------------------------------------------------------

    def _store_result(
        self, task_id: str, result: Any, state: str, _traceback: Any = None, request: Any = None, **_options: Any
    ) -> None:
        """Keep a state of the task's own (`update_state`). Runs are closed by the worker, and `durable=False` tasks
        leave no trace of Celery's states.
        """
        tenant = find_current_tenant()
        is_durable = getattr(self.app.tasks.get(getattr(request, "task", None)), "durable", True)
        if tenant is None or not task_notes.keeps(state) or (not is_durable and state in states.ALL_STATES):
            return
        retries = request.retries if request is not None and request.id == task_id else None
        task_notes.note_state(task_id, tenant.id, state, result, retries)

    def _forget(self, task_id: str) -> None:
        """The task is PENDING again for whoever asks Celery. The history of runs is kept for CGK_HISTORY_DAYS."""
        row = store.find(run_id_of(task_id))
        if row is not None:
            task_notes.note_state(task_id, row["tenant_id"], None)

    # ---- groups ----------------------------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: GroupResult) -> GroupResult:
        groups.save_results(group_id, result.as_tuple())
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        tree = self._seen_group(group_id)
        return {"result": result_from_tuple(tree, app=self.app)} if tree is not None else None

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """The results of a saved group. Not cached for tenants: each sees its own alone."""
        return super().restore_group(group_id, cache and sees_all())

    def _delete_group(self, group_id: str) -> None:
        if sees_all() or self._seen_group(group_id) is not None:
            groups.drop(group_id)

    def _seen_group(self, group_id: str) -> Any:
        """A saved group's tree; None for another tenant's."""
        tree = groups.find_results(group_id)
        if tree is None or sees_all():
            return tree
        unit = current_unit()
        members = (store.record_of(one, unit.connection if unit else None) for one in _members(tree))
        return tree if all(row is None or may_see(row["tenant_id"]) for row in members) else None

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
        with self._tenant_of(request), groups.joined() as connection:
            tenant = find_current_tenant()
            member = groups.Member(
                request.group,
                run_id_of(request.id),
                tenant.id if tenant is not None else "",
                request.group_index,
                None if failed else encode(result, keep_types=True),
                f"Dependency {request.id} raised {result!r}" if failed else None,
            )
            ended = groups.close_member(connection, member)
            if ended is not None:
                self._finish_chord(ended, maybe_signature(request.chord, app=self.app), request)

    def _finish_chord(self, ended: groups.Ended, body: Any, request: Any) -> None:
        culprit = next((member for member in ended.members if member.error is not None), None)
        if culprit is not None:
            unit = current_unit()
            failed = store.record_of(culprit.run_id, unit.connection if unit else None)
            chord_error = ChordError(culprit.error)
            chord_error.__cause__ = None if failed is None else self.error_of(failed)
            self.chord_error_from_stack(body, chord_error, failed)
            return
        values = {member.run_id: typed_json.read(member.result) for member in ended.members}
        error = self.send_next(body, (_shaped(ended.tree, values) if ended.tree else list(values.values()),), request)
        if error is not None:
            self.chord_error_from_stack(body, ChordError(f"Callback error: {error!r}"))

    def _tenant_of(self, request: Any) -> Any:
        """The tenant's context; a `durable=False` task's tenant is in its message only."""
        tenant_id = (request.headers or {}).get(TENANT_HEADER)
        return nullcontext() if tenant_id is None or find_current_tenant() is not None else tenant_context(tenant_id)


_REASONS = {
    "POISON_PILL": "it ended its process too many times",
    "NO_JOB": "no job is registered for this event in its worker: check CGK_JOB_MODULES there",
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


def _members(tree: Any) -> Iterator[str]:
    """The runs of a group's tree, which is Celery's tuple ((id, parent), children or None)."""
    (task_id, _parent), children = tree
    if children is None:
        yield run_id_of(task_id)
    for child in children or ():
        yield from _members(child)


def _shaped(tree: Any, values: dict[str, Any]) -> Any:
    """The members' results in the shape of a nested group: Celery's tuple is ((id, parent), children or None)."""
    (task_id, _parent), children = tree
    if children is None:
        return values.get(run_id_of(task_id))
    return [_shaped(child, values) for child in children]
