"""`TenantTask`: joins Celery to the record of runs. One per event, and the base of an application's own tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated
from celery import Task
from celery._state import _task_stack  # type: ignore[attr-defined]  # celery-types does not know it
from celery.app.task import Context
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.serialization import get_pickleable_exception

from cgk_tasks.broker.answers import call_back
from cgk_tasks.broker.envelope import ANSWER_HEADER, PACKET_HEADER, TENANT_HEADER
from cgk_tasks.broker.packets import run_ids
from cgk_tasks.celery_tasks import external_messages
from cgk_tasks.celery_tasks.adapter import adapter_of
from cgk_tasks.celery_tasks.exceptions import Replaced
from cgk_tasks.celery_tasks.task_options import OPTIONS, check_task_options
from cgk_tasks.errors import CgkTasksError, ConfigurationError, TenantMissingError
from cgk_tasks.events.base import is_durable
from cgk_tasks.events.naming import class_name
from cgk_tasks.events.registry import parse_event
from cgk_tasks.jobs.registry import jobs_for
from cgk_tasks.runs.text import text_of
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.context import find_current_tenant, platform_context, tenant_context
from cgk_tasks.worker import pipeline
from cgk_tasks.worker.attempt import run_inline

if TYPE_CHECKING:
    from celery import Signature
    from celery.result import AsyncResult, EagerResult

Tracer = Callable[..., trace_ok_t]


class TenantTask(Task[Any, Any]):
    """Base class of every task in an app made by cgk_tasks.

    `durable`: True, a record in PostgreSQL for every run; False, the payload travels with the message and Celery's own
    rules apply, still for a tenant. `redelivery`: False where the task must not run twice: a run whose worker or
    process is lost after it has begun fails with WorkerLostError. A worker hands our packets to
    `worker.pipeline.run_packet` in place of Celery's tracer, because a packet holds several runs and each has its own
    request, hooks and signals.
    """

    abstract = True
    durable: ClassVar[bool] = True
    is_adapted: ClassVar[bool] = True
    redelivery: ClassVar[bool | None] = None
    Request = "cgk_tasks.celery_tasks.packet_request:PacketRequest"

    _stock_trace: Tracer | None = None
    _from_settings: ClassVar[tuple[tuple[str, str], ...]] = ()

    @classmethod
    def bind(cls, app: Any) -> Any:
        """As in Celery, which reads the settings once; here it is noted what was read. Raises InvalidOptionError."""
        if "_from_settings" not in vars(cls):  # an app binds its tasks again once it knows all of them
            inherited = {name for name, _ in cls._from_settings}
            cls._from_settings = tuple(
                (name, setting)
                for name, setting in cls.from_config
                if name not in vars(cls) and (name in inherited or getattr(cls, name, None) is None)
            )
        bound: Any = super().bind(app)
        options = {name: getattr(cls, name, None) for name in OPTIONS}
        check_task_options(str(cls.name), options, durable=cls.durable)
        return bound

    @classmethod
    def bind_again(cls) -> None:
        """Read what came from the settings anew, and apply `task_annotations` again."""
        bound: Any = cls
        conf = bound.app.conf
        for name, setting in cls._from_settings:
            setattr(cls, name, conf[setting])
        cls.annotate()
        bound._exec_options = None  # noqa: SLF001 - Celery keeps them there

    @property
    def __trace__(self) -> Tracer | None:
        if self.durable:
            return self._trace_packet
        return self._trace_message if self._stock_trace else None

    @__trace__.setter
    def __trace__(self, tracer: Tracer | None) -> None:
        self._stock_trace = tracer

    @property
    def has_own_call(self) -> bool:
        """Whether the class overrides `__call__`."""
        return type(self).__call__ is not TenantTask.__call__

    def apply_async(  # type: ignore[override]  # the rest of Celery's options by keyword
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """As in Celery, with what the application's settings say now."""
        app: Any = self.app
        app.routing.current()
        return super().apply_async(args, kwargs, **options)

    def retry(self, *args: Any, **options: Any) -> Any:
        """Put the run back, as `Task.retry` in Celery. With `throw=False` this happens when the function returns."""
        put_off = super().retry(*args, **options)
        self.request.retry_at_return = put_off  # type: ignore[attr-defined]  # the request has room for it
        return put_off

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """`delay` when the transaction of Django that is open here has committed, for the tenant of this moment."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, args: Any = None, kwargs: Any = None, **options: Any) -> None:
        """`apply_async` when the transaction of Django has committed. Without one it is sent at once.

        Raises ConfigurationError where there is no Django: with SQLAlchemy it is `apply_async(..., session=session)`.
        """
        try:
            from django.db import transaction
        except ImportError:
            raise ConfigurationError(
                f"{self.name}: sending on commit is about Django's transactions, and Django is not installed.",
                hint="With SQLAlchemy write apply_async(..., session=session).",
            ) from None
        tenant, using = find_current_tenant(), options.pop("using", None)

        def send() -> None:
            if tenant is None:
                self.apply_async(args, kwargs, **options)
                return
            with platform_context(), tenant_context(tenant):  # the commit may be after the request's context
                self.apply_async(args, kwargs, **options)

        transaction.on_commit(send, using=using)

    def on_replace(self, sig: Signature[Any]) -> Any:
        """What `self.replace(signature)` does in the end: the run goes on as the signature, under its own id."""
        if self.request.is_eager or not self.durable:
            return super().on_replace(sig)
        raise Replaced(sig)

    def _trace_packet(
        self,
        uuid: str,  # noqa: ARG002 - Celery's tracers have these arguments
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        request: Mapping[str, Any] | None = None,
    ) -> trace_ok_t:
        """Run the runs of one message. In Celery's terms: returns (result, info, seconds, repr of the result)."""
        begun = time.monotonic()
        context = Context(dict(request or {}), args=args, kwargs=kwargs, called_directly=False)
        _task_stack.push(self)
        self.request_stack.push(context)
        try:
            try:
                ids = run_ids(args[0]) if PACKET_HEADER in (request or {}) else _adopt(self, context)
                call = partial(call_back, request) if request is not None and ANSWER_HEADER in request else None
                error = pipeline.run_packet(adapter_of(self), ids, call)
            except Exception as exc:  # noqa: BLE001 - Celery reports it as the message's failure
                error = exc
            reported = _reported(error)
        finally:
            self.request_stack.pop()
            _task_stack.pop()
        seconds = time.monotonic() - begun
        if reported is None:
            return trace_ok_t(None, None, seconds, "None")
        return trace_ok_t(_exception_info(reported), TraceInfo(_state_of(reported), reported), seconds, repr(reported))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What a class's own `__call__` finds behind it: a run has its request and its tenant already."""
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        return self.run(*args, **kwargs)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> EagerResult[Any]:  # type: ignore[override]
        """Run the task here and now, as `Task.apply` in Celery, for the tenant of the headers if they name one."""
        tenant_id = _tenant_of(options.get("headers"), kwargs)
        with tenant_context(tenant_id) if tenant_id else nullcontext():
            return super().apply(args, kwargs, **options)

    def _trace_message(
        self, uuid: str, args: Sequence[Any], kwargs: Mapping[str, Any], request: Mapping[str, Any] | None = None
    ) -> trace_ok_t:
        """Run a message of a task without a record, with Celery's tracer. What it sends on is the same tenant's."""
        tenant_id = _tenant_of(request, kwargs)
        if tenant_id is None:
            raise TenantMissingError(self.name)
        with tenant_context(tenant_id):
            return cast("Tracer", self._stock_trace)(uuid, args, kwargs, request)


class EventTask(TenantTask):
    """The Celery task of an event. Its name is the event's; its arguments are the event's fields."""

    abstract = True
    is_adapted: ClassVar[bool] = False
    typing = False  # the event's model checks the arguments, with better messages
    ignore_result = True

    def run(self, **fields: Any) -> Any:
        """Run the event's jobs here and now, without a record: what eager mode and direct calls do."""
        payload = parse_event(str(self.name), fields)
        with tenant_context(payload.tenant_id) as tenant:
            values = [run_inline(job, payload, tenant) for job in jobs_for(payload.event_name)]
        return values[0] if len(values) == 1 else values

    def apply_async(  # type: ignore[override]  # the rest of Celery's options by keyword
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send the event: `order_created.apply_async(kwargs={"tenant_id": ..., "order_id": ...}, countdown=60)`."""
        if args:
            raise CgkTasksError(f"{self.name} takes its fields by keyword: .delay(tenant_id=..., ...)")
        return super().apply_async(args, kwargs, **options)


def _tenant_of(headers: Mapping[str, Any] | None, kwargs: Mapping[str, Any] | None) -> str | None:
    """The tenant of a message: of its headers, or of an event's fields."""
    kwargs = kwargs or {}
    return (headers or {}).get(TENANT_HEADER) or kwargs.get("tenantId") or kwargs.get("tenant_id")


def _adopt(task: TenantTask, context: Context) -> list[str]:
    try:
        return external_messages.adopt(task, context)
    except Exception as exc:
        if postgres.is_away(exc) or postgres.is_not_migrated(exc):
            raise pipeline.NotClaimedError("PostgreSQL does not take the message on record.") from exc
        raise


_ACTED_ON: Final = (MemoryError, Ignore, Reject, Terminated)
"""Of these Celery's main process makes something else than a report: it ends, or does not report at all."""


def _reported(error: BaseException | None) -> Exception | None:
    """The error as Celery's main process may hear of it.

    It would end with a SystemExit, and an exception whose text cannot be made would end what is done with it.
    """
    if error is None:
        return None
    if isinstance(error, pipeline.RunsAgain):
        return _retried(error.reason)
    try:
        if isinstance(error, Exception) and not isinstance(error, _ACTED_ON):
            repr(error), str(error)
            return error
    except Exception:  # noqa: BLE001, S110 - whatever an application's __repr__ raises
        pass
    return CgkTasksError(f"{type(error).__qualname__}: {text_of(error)}")


def _retried(reason: BaseException | None) -> Retry:
    """As in Celery, with the exception that is the reason; that of `self.retry(exc=...)` is its own."""
    cause: Any = reason.exc if isinstance(reason, Retry) else _reported(reason)
    return Retry("retried", exc=cause)


def _state_of(error: BaseException) -> str:
    return "RETRY" if isinstance(error, Retry) else "FAILURE"


def _exception_info(error: BaseException) -> ExceptionInfo:
    """The error as Celery's main process expects it: something that pickles, whatever the job raised."""
    try:
        raise get_pickleable_exception(error)  # type: ignore[arg-type]  # any exception will do
    except BaseException:  # noqa: BLE001
        return ExceptionInfo()


def event_task(event: str) -> type[EventTask]:
    """The task class of the event of this name, whose model is not imported for it."""
    about = f"The task of the event {event}."
    values = {"name": event, "durable": is_durable(event), "__module__": __name__, "__doc__": about}
    return type(class_name(event), (EventTask,), values)
