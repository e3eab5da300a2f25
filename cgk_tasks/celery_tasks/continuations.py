"""What follows a run in Celery's canvas: sending the next signatures, or failing those that will not be sent.

Celery asks its result backend for this (`_fail_chain`, `chord_error_from_stack`, `_call_task_errbacks`). It happens in
the transaction that closes the run; an error in one signature is reclaimed to a savepoint and spoils nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import structlog
from celery import group, states
from celery.app.task import Context
from celery.backends.base import BaseBackend, _result_errbacks  # type: ignore[attr-defined]  # private names
from celery.canvas import Signature, _chain, _chord, maybe_signature  # type: ignore[attr-defined]
from celery.exceptions import NotRegistered
from kombu.utils.functional import maybe_list

from cgk_tasks.celery_tasks import groups
from cgk_tasks.celery_tasks.upstream_failed import (
    NOT_SENT,
    PREDECESSOR_FAILED,
    not_called_for,
    record_upstream_failed,
)
from cgk_tasks.errors import JobTimeoutError, RunCancelledError
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.context import find_current_tenant

log = structlog.get_logger("cgk_tasks.canvas")

_CHORD_OPTIONS = ("chord", "group_id", "group_index")


class Following(BaseBackend):
    """The half of the result backend that goes on with a canvas."""

    app: Any

    def send_next(
        self, signature: Any, args: tuple[Any, ...], request: Any, *, children: list[Any] | None = None, **options: Any
    ) -> Exception | None:
        """Send what follows a run. Returns the error if it cannot be sent; then nothing of it was.

        children: takes the result of what was sent.
        """
        inherited = self.app.conf.task_inherit_parent_priority and request.delivery_info
        try:
            with groups.savepoint():
                sent = signature.apply_async(
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
        if children is not None:
            children.append(sent)
        return None

    def fail_upstream(
        self,
        signature: Any,
        error: BaseException,
        *,
        code: str = PREDECESSOR_FAILED,
        outer: Any = None,
        counts: bool = True,
        called: Iterable[Any] = (),
    ) -> None:
        """Record every run of a signature that will not be sent as failed, and count it in the chord it belongs to.

        outer: options of the chord around it, where the signature's parts do not name it. counts: False for members
        of a chord's own header, whose group was never opened. called: the error links that are called for it.
        """
        sig: Any = maybe_signature(signature, app=self.app)
        fail = partial(self.fail_upstream, error=error, code=code, called=called)
        own = {name: sig.options[name] for name in _CHORD_OPTIONS if sig.options.get(name) is not None}
        around = {**(outer or {}), **own}
        if isinstance(sig, _chord):
            for task in getattr(sig.tasks, "tasks", sig.tasks):
                fail(task, counts=False)
            fail(sig.body, outer=around, counts=counts)
        elif isinstance(sig, group):
            for task in sig.tasks:
                fail(task, outer=around, counts=counts)
        elif isinstance(sig, _chain):
            for task in sig.tasks[:-1]:
                fail(task, counts=False)
            for task in sig.tasks[-1:]:
                fail(task, outer=around, counts=counts)
        else:
            tenant = find_current_tenant()
            if tenant is not None:
                record_upstream_failed(sig, tenant.id, error, code, called)
            if counts and around.get("chord"):
                part = Context(
                    id=sig.options.get("task_id"), group=around.get("group_id"), chord=around["chord"],
                    group_index=around.get("group_index"), delivery_info={},
                )  # fmt: skip
                self.on_chord_part_return(part, states.FAILURE, error)

    def _fail_chain(self, chain: Iterable[Any] | None, exc: Any, *_arguments: Any, **_options: Any) -> None:
        for signature in chain or ():
            self.fail_upstream(signature, exc)

    def chord_error_from_stack(  # type: ignore[override]
        self, callback: Any, exc: Any = None, failed: Mapping[str, Any] | None = None
    ) -> None:
        """Fail a chord's body, what comes after it, and the chord around it; then call the body's error links.

        failed: the record of the member that failed. Celery links an error link of a chord to the chords in its header
        too, and calls it once: where such a chord has failed and called it, it is not called again. A body that is a
        group fails with the member's own exception, as in Celery.
        """
        error = exc
        if isinstance(callback, group):
            error = exc.__cause__ or exc
            own = maybe_list(callback.options.get("link_error")) or []
            linked = [(task_id, [*links, *own]) for task_id, links in self._errbacks_of(callback.tasks)]
        else:
            linked = self._errbacks_of([callback])
        self.fail_upstream(callback, error, called=[link for _, links in linked for link in links])
        self._fail_chain(callback.options.get("chain"), exc)
        for task_id, errbacks in linked:
            wanted = not_called_for(failed, errbacks)
            unique = [link for at, link in enumerate(wanted) if link not in wanted[:at]]
            request = Context(id=task_id, errbacks=unique, task=callback.task, delivery_info={}, args=[], kwargs={})
            self._call_task_errbacks(request, error, None)

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
                self.fail_upstream(signature, error, code=NOT_SENT)

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


def _described(request: Any) -> dict[str, Any]:
    """A request as JSON, for an error link that asks for it."""
    names = (
        "id",
        "task",
        "args",
        "kwargs",
        "retries",
        "root_id",
        "parent_id",
        "group",
        "headers",
        "delivery_info",
    )
    return {name: getattr(request, name, None) for name in names}
