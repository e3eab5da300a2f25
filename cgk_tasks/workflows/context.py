"""What a workflow's function is given: its event, its tenant, and the steps and waits that it asks for."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple, overload

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.jobs.step_scope import refuse_in_step
from cgk_tasks.sql.clock import known_now
from cgk_tasks.workflows.calls import Compensation
from cgk_tasks.workflows.children import Child, OnFailure, checked_policy, child
from cgk_tasks.workflows.doing import PlainWay, finish
from cgk_tasks.workflows.durations import aware, sleep_seconds, timeout_seconds
from cgk_tasks.workflows.effects import Reconciled
from cgk_tasks.workflows.events import event_of, key_of, name_of
from cgk_tasks.workflows.leg import Leg
from cgk_tasks.workflows.names import UNNAMED, check_name
from cgk_tasks.workflows.parallel import in_threads
from cgk_tasks.workflows.results import ends_of, result_type
from cgk_tasks.workflows.run import E, P_co, RunOfWorkflow, new_uuid
from cgk_tasks.workflows.signal_urls import check_settings, new_issue, valid_seconds
from cgk_tasks.workflows.sources import First, Source, checked, first_of, mails_and_timers
from cgk_tasks.workflows.suspension import WorkflowSuspended

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.jobs.retry import RetryConfig
    from cgk_tasks.runs.steps import Memo

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


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

    def __init__(self, ctx: JobContext[P_co], leg: Leg, version: int) -> None:
        super().__init__(ctx, leg, version, PlainWay())

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
            kind = result_type(function)
            value: T = self._ended(finish(self._doing.step(call, kind, function, args, retry)), kind)
            return value

    def effect(
        self,
        name: str,
        function: Callable[[str, *Ts], T],
        /,
        *args: *Ts,
        reconcile: Callable[[str], T | Reconciled] | None = None,
        retry: RetryConfig | None = None,
    ) -> T:
        """A step for what must not happen twice elsewhere, such as a payment.

            wf.effect("charge", charge_card, account, reconcile=find_charge)

        The function is given a key first, the same in all attempts, for the other side to know the effect by. That it
        begins is on record before it is called. If it is not known whether it happened (its worker died, or an error
        that does not say), a later leg calls `reconcile` with the key: it returns the result, or Reconciled.NOT_DONE,
        and then the effect is done again, or Reconciled.UNKNOWN. Then, and without `reconcile`, the run waits for a
        signal with the effect's name: {"outcome": "done", "result": ...}, {"outcome": "again"} or
        {"outcome": "failed"}. TransientError, RetryLater and errors that no retry cures say that it did not happen.
        """
        check_name(name)
        self._go_on(name)
        with self._leg.call(name, "effect") as call:
            kind = result_type(function)
            done = finish(self._doing.effect(call, kind, function, args, reconcile, retry))
            value: T = self._ended(done, kind)
            return value

    def compensate(
        self, name: str, function: Callable[[*Ts], object], /, *args: *Ts, retry: RetryConfig | None = None
    ) -> None:
        """Say what undoes what was done: it is called if the workflow fails for good, or is cancelled, from here on.

            account = wf.step("create-account", create_account, wf.payload.email)
            wf.compensate("close-account", close_account, account)

        Compensations are called the last first, each once, as steps: with `wf.db`, and tried again by `retry`. If one
        of them fails for good, those before it are left, and the run fails with COMPENSATION_FAILED.
        """
        check_name(name)
        self._go_on(name)
        self._leg.compensate(Compensation(name, function, args, retry))

    def _ended(self, memo: Memo | None, kind: Any) -> Any:
        """What a step gives that is over; else the leg ends."""
        if memo is None:
            raise self._leg.suspended()
        return self._value(memo, kind)

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
            if not self._waits.is_slept(call, until):
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
        seconds = timeout_seconds(name, timeout)
        self._go_on(name)
        with self._leg.call(name, "signal") as call:
            memo = self._waits.taken(call, name, seconds, f"signal {name}")
            if memo is None:
                self._leg.check_all_asked()
            return self._ended(memo, kind)

    @overload
    def wait_for_event(
        self,
        event: type[E],
        /,
        *,
        match: object,
        field: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> E | None: ...
    @overload
    def wait_for_event(
        self, event: str, /, *, match: object, field: str | None = None, timeout: float | timedelta | None = None
    ) -> Any: ...
    def wait_for_event(
        self,
        event: str | type[TenantEvent],
        /,
        *,
        match: object,
        field: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """Go on when the event is sent for this tenant with a field that is `match`, and return it.

            paid = wf.wait_for_event(OrderPaid, match=order_id, timeout=timedelta(days=7))

        The definition names the event and the field: `waits_for=[("order.paid", "orderId")]`; of several fields `field`
        says which. One that was sent since the run was made counts, for CGK_MAIL_DAYS. None if it did not come in time.
        """
        name = name_of(event)
        mail = key_of(self._leg.waits_for, name, field, match).mail
        seconds = timeout_seconds(name, timeout)
        self._go_on(name)
        with self._leg.call(name, "event") as call:
            memo = self._waits.taken(call, mail, seconds, f"event {name}")
            if memo is None:
                self._leg.check_all_asked()
                raise self._leg.suspended()
            return event_of(memo)

    def wait_any(self, name: str, /, **sources: Source) -> First:
        """Go on when the first of several has come, and say which.

            answer = wf.wait_any("answer", yes=wf.signal("approve", Approval), late=wf.timer(timedelta(days=3)))
            if answer.name == "late":
                wf.step("remind", send_reminder)

        What has come already goes before a time that is over, in the order in which they are named. The others are not
        taken: their mail is kept for later waits.
        """
        wanted = checked(name, sources)
        self._go_on(name)
        with self._leg.call(name, "any") as call:
            memo = self._waits.first(call, *mails_and_timers(wanted))
            if memo is None:
                self._leg.check_all_asked()
                raise self._leg.suspended()
            return first_of(memo, wanted)

    def invoke(
        self,
        name: str,
        event: str | TenantEvent,
        payload: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | timedelta | None = None,
        **options: Any,
    ) -> Any:
        """Send an event of this tenant as a child run, go on when that has ended, and return its result.

            report = wf.invoke("report", "report.build", {"orderId": order_id}, timeout=timedelta(hours=1))

        Of an event with several jobs it is a dictionary of theirs. The other options are those of `send_job`, but for
        `idempotency_key`: a child is made once. It is cancelled together with this run, and when this run fails. Raises
        ChildFailedError, with the child's code; ChildCancelledError; and ChildTimeoutError if it did not end in time,
        when it is cancelled, too.
        """
        check_name(name)
        wanted, seconds = [child(event, payload, options)], timeout_seconds(name, timeout)
        self._go_on(name)
        with self._leg.call(name, "invoke") as call:
            memo = self._children.ended(call, wanted, "fail", seconds)
            if memo is None:
                self._leg.check_all_asked()
            return self._ended(memo, Any)

    def gather(self, name: str, children: Sequence[Child], /, *, on_failure: OnFailure = "fail") -> list[Any]:
        """Several child runs at the same time; their results, in the order of the children.

            sent = wf.gather("mails", [wf.child("email.send", mail) for mail in mails], on_failure="continue")

        on_failure: "fail": the first that fails cancels the others, and is raised; "wait": the first is raised when all
        have ended; "continue": in place of its result stands the ChildFailedError. The run is woken once.
        """
        check_name(name)
        policy = checked_policy(name, on_failure)
        self._go_on(name)
        with self._leg.call(name, "gather") as call:
            memo = self._children.ended(call, children, policy)
            if memo is None:
                self._leg.check_all_asked()
            return ends_of(name, self._ended(memo, Any))

    def parallel(self, name: str, /, **functions: Callable[[], Any]) -> tuple[Any, ...]:
        """Several steps at the same time, in threads of this process; their results in the order of their names.

            crm, shop = wf.parallel("fetch", crm=fetch_crm, shop=fetch_shop)

        Each is a step of its own, called `name.crm` and the like, and is tried again by itself. Raises StepFailedError
        of one that has failed, when all have ended.
        """
        check_name(name)
        self._go_on(name)
        calls = [partial(self._parallel, f"{name}.{key}", function) for key, function in functions.items()]
        try:
            return tuple(in_threads(calls))
        except WorkflowSuspended:
            raise self._leg.suspended() from None  # of all of them

    def _parallel(self, name: str, function: Callable[[], Any]) -> Any:
        with self._leg.call(name, "step") as call:
            kind = result_type(function)
            return self._ended(finish(self._doing.step(call, kind, function, (), None)), kind)

    def continue_as_new(self, payload: Mapping[str, Any] | TenantEvent) -> NoReturn:
        """End this run, and begin a new one of the same event with this payload and no steps.

            wf.continue_as_new({"cursor": page.last})

        For workflows without an end, which would have too many steps. The result of this run names the new one:
        {"continuedAs": id}. The new one gets signals that were not taken. What there was to undo is not undone. Not for
        child runs. It ends with an exception that `except Exception` does not catch.
        """
        self._go_on("continue_as_new")
        self._leg.check_all_asked()
        raise self._continued(payload)

    def now(self) -> datetime:
        """The time, as the leg has it that asks first."""
        return self._step(UNNAMED["now"], known_now)

    def uuid(self) -> uuid.UUID:
        """A random UUID, the same in all legs."""
        return self._step(UNNAMED["uuid"], new_uuid)

    def signal_url(self, name: str, /, *, valid: float | timedelta = timedelta(days=3), payload: object = True) -> str:
        """An address that a person opens in a browser to send this run a signal, once, within `valid`.

            wf.step("ask", send_mail, wf.signal_url("approve", valid=timedelta(days=3)))
            approved = wf.wait_for_signal("approve", timeout=timedelta(days=3))

        The page has a button, which sends `payload`: short JSON, which whoever has the address can read. The same in
        all legs. `cgk-tasks gateway` serves the page, at CGK_SIGNAL_URL. Raises ConfigurationError without that
        setting, or without a key to sign with; InvalidOptionError.
        """
        check_name(name)
        check_settings()
        seconds = valid_seconds(valid, payload)
        return self._signal_url(self._step(UNNAMED["signal_url"], new_issue, (seconds,)), name, payload)

    def _go_on(self, name: str) -> None:
        refuse_in_step(name)
        self._leg.check_goes_on()
