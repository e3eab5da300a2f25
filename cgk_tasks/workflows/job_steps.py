"""Steps of plain jobs: what one attempt has done, the next one does not do again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from cgk_tasks.errors import RetryLater, TransientError
from cgk_tasks.jobs.error_record import classified
from cgk_tasks.jobs.retry import TASK_RUNNER_DEFAULT
from cgk_tasks.jobs.step_scope import refuse_in_step
from cgk_tasks.workflows.calls import Call, Compensation
from cgk_tasks.workflows.doing import Doing, PlainWay, finish
from cgk_tasks.workflows.leg import Leg
from cgk_tasks.workflows.memory import MemoryRecord
from cgk_tasks.workflows.names import ANY_NAME, check_name
from cgk_tasks.workflows.results import decoded, error_of, result_type
from cgk_tasks.workflows.retrying import Retries
from cgk_tasks.workflows.undoing import undo

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.jobs.retry import RetryConfig
    from cgk_tasks.runs.steps import Memo


class JobSteps:
    """Of one attempt."""

    def __init__(self, ctx: JobContext[Any]) -> None:
        record = ctx.step_record if ctx.step_record is not None else MemoryRecord()
        self._ctx = ctx
        self._leg = Leg(record, ctx.job_id, ANY_NAME, TASK_RUNNER_DEFAULT, record.load())
        self._doing = Doing(self._leg, ctx.run_id, ctx.tenant, PlainWay(), _RetriesOfJob(self._leg))

    @property
    def is_undone(self) -> bool:
        """Whether the job has come so far that what its run has done can be undone, and it is to be."""
        return self._leg.undo is not None and not self._leg.is_replaying

    def undo(self) -> NoReturn:
        """Undo what the run has done. Raises WorkflowUndone, or what keeps it from that."""
        assert self._leg.undo is not None
        doing = Doing(self._leg, self._ctx.run_id, self._ctx.tenant, PlainWay())
        finish(undo(self._leg, doing, self._ctx, self._leg.undo))
        raise AssertionError

    def step(self, name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self._check(name)
        with self._leg.call(name, "step") as call:
            kind = result_type(function)
            return self._value(finish(self._doing.step(call, kind, function, args, None)), kind)

    def effect(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], reconcile: Callable[[str], Any] | None
    ) -> Any:
        self._check(name)
        with self._leg.call(name, "effect") as call:
            kind = result_type(function)
            return self._value(finish(self._doing.effect(call, kind, function, args, reconcile, None)), kind)

    def compensate(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], retry: RetryConfig | None
    ) -> None:
        self._check(name)
        self._leg.compensate(Compensation(name, function, args, retry))

    def _check(self, name: str) -> None:
        check_name(name)
        refuse_in_step(name)
        self._leg.check_goes_on()

    def _value(self, memo: Memo | None, kind: Any) -> Any:
        if memo is None:  # an effect of which a person decides
            raise self._leg.suspended()
        if memo.state == "failed":
            raise error_of(memo)
        return decoded(memo.result or "null", kind, memo.name)


class _RetriesOfJob(Retries):
    """An error in a step is one of the job, whose own policy says what follows."""

    def failed(self, call: Call, retry: RetryConfig | None, exc: Exception, seconds: float) -> Memo | None:  # noqa: ARG002
        raise exc

    def effect_failed(self, call: Call, retry: RetryConfig | None, exc: Exception, seconds: float) -> Memo | None:  # noqa: ARG002
        if isinstance(exc, TransientError | RetryLater) or classified(exc).kind == "permanent":
            self._leg.keep(call, call.open("begun", seconds=seconds))
        raise exc

    def look_again(self, call: Call, exc: Exception, retry: RetryConfig | None) -> None:  # noqa: ARG002
        raise exc

    def not_done(self, call: Call, retry: RetryConfig | None) -> Memo | None:  # noqa: ARG002
        return call.open("begun")

    def is_put_off(self, call: Call) -> bool:  # noqa: ARG002
        return False
