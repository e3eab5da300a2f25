"""What a workflow's function is given: its event, its tenant, and the steps and waits that it asks for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, overload

from cgk_tasks.errors import ConfigurationError, LostRunError, RunCancelledError
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.sql.clock import known_now
from cgk_tasks.workflows.leg import Call, Leg, sleep_seconds
from cgk_tasks.workflows.names import UNNAMED, check_name
from cgk_tasks.workflows.results import decoded, encoded, result_type
from cgk_tasks.workflows.scope import refuse_in_step, session_of_step, step_scope

if TYPE_CHECKING:
    import structlog
    from sqlalchemy.orm import Session

    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.runs.steps import Memo
    from cgk_tasks.tenancy.models import Tenant

P_co = TypeVar("P_co", covariant=True)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class RunOfWorkflow(Generic[P_co]):
    """What both kinds of contexts say of the run."""

    def __init__(self, ctx: JobContext[P_co], leg: Leg, version: int) -> None:
        self._ctx = ctx
        self._leg = leg
        self._version = version

    @property
    def payload(self) -> P_co:
        """The event that began the run."""
        return self._ctx.payload

    @property
    def run_id(self) -> str:
        return self._ctx.run_id

    @property
    def tenant(self) -> Tenant:
        return self._ctx.tenant

    @property
    def tenant_id(self) -> str:
        return self._ctx.tenant.id

    @property
    def version(self) -> int:
        """The version of the workflow that the run began with."""
        return self._version

    @property
    def is_replaying(self) -> bool:
        """Whether there are steps on record that the function has not come to yet."""
        return self._leg.is_replaying

    @property
    def logger(self) -> structlog.stdlib.BoundLogger:
        """A logger whose lines carry tenant, event, run and attempt. Outside of steps each leg writes them again."""
        return self._ctx.logger

    @property
    def db(self) -> Session:
        """The tenant's database session, in a step alone. Do not commit it: it commits with the step's memo, so that
        what the step wrote is there exactly once. Raises ConfigurationError, UnknownTenantError.
        """
        return session_of_step(self._ctx.has_database)


class WorkflowContext(RunOfWorkflow[P_co]):
    """A workflow's run, as its function sees it.

        @define_workflow("onboard", event="customer.created")
        def onboard(wf: WorkflowContext[CustomerCreated]) -> str:
            account = wf.step("create-account", create_account, wf.payload.email)
            wf.sleep("trial", timedelta(days=14))
            wf.step("remind", send_reminder, account)
            return account

    The function runs from the top at each leg, and steps that are on record give what they gave before. So whatever is
    not the same each time (reads, times, random numbers, other systems) belongs into a step.
    """

    def step(self, name: str, function: Callable[[*Ts], T], /, *args: *Ts, retry: RetryConfig | None = None) -> T:
        """Call the function once, and keep what it returns; in later legs return that, without a call.

        name: unlike those of all other steps, or the n-th call is the n-th step of the name. The result is JSON of at
        most CGK_MAX_RESULT_BYTES, read as the type that the function is annotated with. An error is tried again by
        `retry` or the workflow's own policy, without holding the worker. Raises StepFailedError when there is no
        further attempt.
        """
        check_name(name)
        return self._step(name, function, args, retry)

    def _step(
        self, name: str, function: Callable[..., T], args: tuple[Any, ...] = (), retry: RetryConfig | None = None
    ) -> T:
        self._go_on(name)
        with self._leg.call(name, "step") as call:
            kind, memo = result_type(function), call.memo
            if memo is None or not memo.is_over:
                if self._leg.is_put_off(call):
                    raise self._leg.suspended()
                memo = self._do(call, kind, function, args, retry)
            value: T = self._value(memo, kind)
            return value

    def _do(
        self, call: Call, kind: Any, function: Callable[..., Any], args: tuple[Any, ...], retry: RetryConfig | None
    ) -> Memo:
        begun = time.perf_counter()
        kept: Memo | None = None
        with step_scope(call.name, self.tenant) as scope:
            try:
                memo = done(call, function(*args), kind, begun)
                if scope.session is not None:
                    kept = self._leg.keep(call, memo, scope.session)
            except (LostRunError, RunCancelledError):
                raise
            except Exception as exc:
                scope.close()
                failed = self._leg.failed(call, exc, retry, time.perf_counter() - begun)
                if failed is None:
                    raise self._leg.suspended() from exc
                raise self._leg.error_of(self._leg.keep(call, failed)) from exc
        return kept or self._leg.keep(call, memo)

    def _value(self, memo: Memo, kind: Any) -> Any:
        if memo.state == "failed":
            raise self._leg.error_of(memo)
        if memo.state == "timed_out":
            return None
        return decoded(memo.result or "null", kind, memo.name)

    def sleep(self, name: str, duration: float | timedelta) -> None:
        """Go on after so many seconds, or a timedelta; until then the run holds no worker."""
        self._sleep(name, sleep_seconds(name, duration))

    def sleep_until(self, name: str, moment: datetime) -> None:
        """Go on at a time, which must have a time zone."""
        self._sleep(name, aware(name, moment))

    def _sleep(self, name: str, until: datetime | float) -> None:
        check_name(name)
        self._go_on(name)
        with self._leg.call(name, "sleep") as call:
            if not self._leg.is_slept(call, until):
                self._leg.check_all_asked()
                raise self._leg.suspended()

    @overload
    def wait_for_signal(self, name: str, /, *, timeout: float | timedelta | None = None) -> Any: ...
    @overload
    def wait_for_signal(self, name: str, kind: type[T], /, *, timeout: float | timedelta | None = None) -> T | None: ...
    def wait_for_signal(self, name: str, kind: Any = Any, /, *, timeout: float | timedelta | None = None) -> Any:
        """Go on when somebody has called `signal_run` with this name, and return what was sent, read as `kind`.

        One that came before the wait counts. Each is taken once, the oldest first. None if it did not come in time.
        """
        check_name(name)
        seconds = None if timeout is None else sleep_seconds(name, timeout)
        self._go_on(name)
        with self._leg.call(name, "signal") as call:
            memo = self._leg.taken(call, name, seconds, f"signal {name}")
            if memo is None:
                self._leg.check_all_asked()
                raise self._leg.suspended()
            return self._value(memo, kind)

    def now(self) -> datetime:
        """The time, as the leg has it that asks first."""
        return self._step(UNNAMED["now"], known_now)

    def uuid(self) -> uuid.UUID:
        """A random UUID, the same in all legs."""
        return self._step(UNNAMED["uuid"], new_uuid)

    def _go_on(self, name: str) -> None:
        """What has ended the leg ends it, also where the function has caught it."""
        refuse_in_step(name)
        if self._leg.waits:
            raise self._leg.suspended()


def done(call: Call, value: Any, kind: Any, begun: float) -> Memo:
    """The memo of a step that returned. Raises PermanentError for a result that cannot be kept and read again."""
    text = encoded(value, call.name)
    decoded(text, kind, call.name)
    return call.ended("done", result=text, seconds=time.perf_counter() - begun)


def new_uuid() -> uuid.UUID:
    return uuid.uuid4()


def aware(name: str, moment: datetime) -> datetime:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(
            f"{name!r} cannot end at {moment!r}.",
            hint="Give an aware datetime, for instance wf.now() + timedelta(days=1).",
        )
    return moment
