"""How steps are done: one text for plain functions and for coroutines, which differ in how they call and write."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cgk_tasks.errors import ConfigurationError, RunCancelledError, StaleAttemptError
from cgk_tasks.jobs.step_scope import step_scope
from cgk_tasks.workflows.calls import Call
from cgk_tasks.workflows.effects import Reconciled
from cgk_tasks.workflows.leg import Leg
from cgk_tasks.workflows.results import decoded, encoded, error_of
from cgk_tasks.workflows.retrying import Retries
from cgk_tasks.workflows.waits import Waits

if TYPE_CHECKING:
    from cgk_tasks.jobs.retry import RetryConfig
    from cgk_tasks.runs.steps import Memo
    from cgk_tasks.tenancy.models import Tenant

T = TypeVar("T")
Failed = Callable[[Exception, float], "Memo | None"]
"""What follows from an error after so many seconds: how the step ended, or None if the leg ends here."""


class Way(Protocol):
    """How a context calls functions of the application, and writes to the record."""

    async def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any: ...
    async def write(self, function: Callable[..., T], *args: Any) -> T: ...
    def is_on(self) -> AbstractContextManager[None]:
        """Around a step while it is done."""


class PlainWay:
    """Of a workflow that is a plain function: nothing is awaited."""

    async def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        value = function(*args)
        if isinstance(value, Coroutine):
            value.close()
            raise ConfigurationError(
                f"{_name(function)} is a coroutine function, and the workflow is a plain one.",
                hint="Define the workflow with `async def`, or give it a plain function.",
            )
        return value

    async def write(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    def is_on(self) -> AbstractContextManager[None]:
        return nullcontext()


def finish(doing: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that awaits nothing."""
    try:
        doing.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    doing.close()
    raise RuntimeError("A plain workflow's step has awaited something.")


class Doing:
    """The steps of one leg. Each returns the step as it is over; None where the leg ends here."""

    def __init__(self, leg: Leg, run_id: str, tenant: Tenant, way: Way, retries: Retries | None = None) -> None:
        self._leg = leg
        self._retries = retries or Retries(leg)
        self._waits = Waits(leg)
        self._run_id = run_id
        self._tenant = tenant
        self._way = way

    async def step(
        self, call: Call, kind: Any, function: Callable[..., Any], args: tuple[Any, ...], retry: RetryConfig | None
    ) -> Memo | None:
        """kind: of the result."""
        if call.is_over or self._retries.is_put_off(call):
            return call.memo if call.is_over else None
        with self._way.is_on():
            return await self._once(call, kind, function, args, partial(self._retries.failed, call, retry))

    async def _once(
        self, call: Call, kind: Any, function: Callable[..., Any], args: tuple[Any, ...], failed: Failed
    ) -> Memo | None:
        begun = time.perf_counter()
        kept: Memo | None = None
        with step_scope(call.name, self._tenant) as scope:
            try:
                value = await self._way.call(_callable(function), args)
                memo = _done(call, value, kind, time.perf_counter() - begun)
                if scope.session is not None:
                    kept = await self._keep(call, memo, scope.session)
            except (StaleAttemptError, RunCancelledError):
                raise
            except Exception as exc:
                scope.close()
                ended = failed(exc, time.perf_counter() - begun)
                if ended is None:
                    return None
                kept = await self._keep(call, ended)
                if kept.state == "failed":
                    raise error_of(kept) from exc
        return kept or await self._keep(call, memo)

    async def _keep(self, call: Call, memo: Memo, session: Any = None) -> Memo:
        return await self._way.write(self._leg.keep, call, memo, session)

    async def effect(
        self,
        call: Call,
        kind: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        reconcile: Callable[[str], Any] | None,
        retry: RetryConfig | None,
    ) -> Memo | None:
        """As a step, whose function is given the key first; that it begins is on record before it is called."""
        if call.is_over or self._retries.is_put_off(call):
            return call.memo if call.is_over else None
        key = f"{self._run_id}:{call.name}:{call.nth}"
        with self._way.is_on():
            if call.memo is not None and call.memo.state in {"intent", "waiting"}:
                known = await self._look(call, kind, key, reconcile, retry)
                if known is None or known.is_over:
                    return known
                self._leg.check_not_undone()
            begun = await self._keep(call, call.open("intent"))
            if begun.is_over:
                return begun
            return await self._once(
                call, kind, function, (key, *args), partial(self._retries.effect_failed, call, retry)
            )

    async def _look(
        self, call: Call, kind: Any, key: str, reconcile: Callable[[str], Any] | None, retry: RetryConfig | None
    ) -> Memo | None:
        """What became of an effect that was begun: over, or `begun` if it is to be done again. kind: of its result; of
        what is none of it nothing is kept.
        """
        if reconcile is not None and call.memo is not None and call.memo.state == "intent":
            with step_scope(call.name, self._tenant):
                try:
                    said = await self._way.call(reconcile, (key,))
                    text = ""
                    if not isinstance(said, Reconciled):
                        text = encoded(said, call.name)
                        decoded(text, kind, call.name)
                except (StaleAttemptError, RunCancelledError):
                    raise
                except Exception as exc:  # noqa: BLE001 - whatever keeps it from saying: it is asked again
                    self._retries.look_again(call, exc, retry)
                    return None
            if said is Reconciled.NOT_DONE:
                return self._retries.not_done(call, retry) or await self._keep(
                    call, call.ended("failed", error=call.memo.error)
                )
            if said is not Reconciled.UNKNOWN:
                return await self._keep(call, call.ended("done", result=text))
        return await self._way.write(self._waits.decided, call, kind)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _callable(function: Callable[..., Any]) -> Callable[..., Any]:
    if callable(function):
        return function
    raise ConfigurationError(
        f"A step was given {function!r}, which is no function.",
        hint='Give the function and its arguments, as in wf.step("send", send_mail, address), and do not call it.',
    )


def _done(call: Call, value: Any, kind: Any, seconds: float) -> Memo:
    """The memo of a step that returned. Raises PermanentError for a result that cannot be kept and read again."""
    text = encoded(value, call.name)
    decoded(text, kind, call.name)
    return call.ended("done", result=text, seconds=seconds)
