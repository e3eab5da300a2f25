"""The Celery app: `celery -A cgk_tasks worker`, and `from cgk_tasks import app` for an application's own tasks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, partial
from importlib import import_module, reload
from pathlib import Path
from typing import TYPE_CHECKING, Any

import celery
from celery import Task, _state, signals
from celery.fixups import django

from cgk_tasks import celeryconfig
from cgk_tasks.broker.without import refuse_without_record
from cgk_tasks.builtin import register_builtin_jobs
from cgk_tasks.celery_tasks import app_settings, groups, lazy_groups, revoked_sends, sending
from cgk_tasks.celery_tasks.bootsteps import SupervisorStep
from cgk_tasks.celery_tasks.commands import extend_commands
from cgk_tasks.celery_tasks.consumption import ConsumptionStep
from cgk_tasks.celery_tasks.limits import check_limits
from cgk_tasks.celery_tasks.ping import Ping
from cgk_tasks.celery_tasks.printed import log_what_is_printed
from cgk_tasks.celery_tasks.result_backend import RunResultBackend
from cgk_tasks.celery_tasks.routing import Routing
from cgk_tasks.celery_tasks.sending import Times
from cgk_tasks.celery_tasks.task import TenantTask, event_task
from cgk_tasks.celery_tasks.task_classes import tenant_class
from cgk_tasks.celery_tasks.task_options import check_serializer, check_task_options
from cgk_tasks.celery_tasks.times import countdown_of, expiry_of, moment_of
from cgk_tasks.celery_tasks.unhandled import UnhandledTask
from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.flower_command import replace_flower_command
from cgk_tasks.django.project import register_tasks_job
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.events.registry import event_name, event_names
from cgk_tasks.extras import require_extra
from cgk_tasks.jobs.registry import import_job_modules
from cgk_tasks.monitoring.logging import configure_logging
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.worker.pipeline import current_run

if TYPE_CHECKING:
    from celery.result import AsyncResult


_OF_THE_BROKER = ("broker_", "task_default_queue", "task_queues", "task_create_missing_queue_type")


class CgkCelery(celery.Celery[TenantTask]):
    """A Celery app whose tasks are durable, tenant-bound runs.

    `send_task` is the one place through which Celery publishes: `delay`, `apply_async` and every part of a canvas
    come by here, so this is where a message becomes a run and gets its tenant.
    """

    task_cls = TenantTask  # type: ignore[assignment]  # celery-types allows the dotted name only
    control_cls = "cgk_tasks.celery_tasks.control:RunControl"
    amqp_cls = "cgk_tasks.celery_tasks.queues:RunAMQP"

    @cached_property
    def routing(self) -> Routing:
        """Where its tasks are sent."""
        return Routing(self, self.usual_queue)

    def __init__(self, main: str | None = None, *args: Any, **options: Any) -> None:
        self.given_settings: dict[str, Any] = {}
        self.usual_queue: str = celeryconfig.task_default_queue
        super().__init__(main, *args, **options)
        self.steps["worker"].add(SupervisorStep)
        self.steps["consumer"].add(ConsumptionStep)
        if get_settings().metrics_served_on:
            require_extra("worker", "CGK_METRICS_ADDRESS")
            from cgk_tasks.monitoring.worker_metrics import MetricsStep

            self.steps["worker"].add(MetricsStep)
        if get_settings().alerts:
            from cgk_tasks.monitoring.alert_step import AlertStep

            self.steps["worker"].add(AlertStep)
        own: Any = self
        if vars(_state)["default_app"] is None:
            own.set_default()  # else `@shared_task` means Celery's default app in the threads of a web server
        self.on_after_finalize.connect(_register_own_tasks, weak=False)
        _apps.append(self)

    def _load_config(self) -> Any:
        """Celery reads the settings here, when they are first asked for. Raises ConfigurationError."""
        self._apply_django_fixup()
        own: Any = self
        package = app_settings.package_settings()

        def settings() -> dict[str, Any]:
            source = self.loader.conf
            if source is None:
                return package
            self.given_settings = app_settings.given_settings(source, own.namespace)
            if "timezone" not in self.given_settings and "TIME_ZONE" in source:
                package.pop("timezone")  # Celery takes that of the Django project
            return app_settings.laid_over(package, self.given_settings)

        own._pending_defaults.appendleft(settings)  # noqa: SLF001 - Celery's own place for what comes later
        conf = super()._load_config()  # type: ignore[misc]
        app_settings.refuse_what_cannot_hold(conf, package)
        return conf

    def _get_backend(self) -> Any:
        """The record of runs, whatever the settings name: results are there, and nowhere else."""
        return RunResultBackend(app=self, url=None)

    def _apply_django_fixup(self) -> None:
        """What Celery does when an app is made; here too where DJANGO_SETTINGS_MODULE is set only after that."""
        own: Any = self
        held: list[Any] = vars(self)["_fixups"]
        if own.fixups and not any(held) and (applied := django.fixup(own)) is not None:
            held.append(applied)

    def autodiscover_tasks(self, *args: Any, **options: Any) -> Any:
        """As Celery's; without packages, those of the Django project."""
        self._apply_django_fixup()
        return super().autodiscover_tasks(*args, **options)

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name
        """The command `celery worker`."""
        own: Any = self
        return own.subclass_with_self("cgk_tasks.celery_tasks.worker_command:RunWorker")

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """The command `celery beat`."""
        own: Any = self
        return own.subclass_with_self("cgk_tasks.celery_tasks.beat_command:RunBeat")

    def send_task(  # type: ignore[override]  # the rest of Celery's options by keyword
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        task_id: str | None = None,
        expires: Any = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by name as a durable run. Options are Celery's; `idempotency_key`, `max_attempts` and `session`
        (a SQLAlchemy session whose transaction the run belongs to) are ours.

        Raises TenantMissingError when no tenant is in the payload, the headers or the context, and what `send_job`
        raises.
        """
        name = event_name(name)
        running = current_run.get()
        if running is not None and task_id and run_id_of(task_id) == running.id and options.get("retries"):
            # `self.retry()` publishes the same id again; here the runner puts the run back instead.
            return self.AsyncResult(task_id)
        routing = self.routing.current()  # before anything else: it gives the tasks the settings of now
        task = self.tasks.get(name)
        if task is not None and options.get("task_type") is None:
            options = _with_own_options(task, options)
            expires = options.pop("expires", None) if expires is None else expires
        times = Times(
            countdown_of(countdown) if countdown else None,
            moment_of("eta", eta) if eta else None,
            expiry_of(expires),
        )
        check_limits(options)
        check_serializer(options.get("serializer"))
        session = sending.session_of(options)
        if task is None or getattr(task, "durable", False):
            return sending.send_run(self, routing, name, args, kwargs, times, task_id, options, session)
        if session is not None:
            raise InvalidOptionError("session", f"was given to {name}, which leaves no record (durable=False)")
        refuse_without_record(name)
        options["headers"] = sending.headers_with_tenant(name, kwargs, options.get("headers"))
        groups.write_sizes()
        return super().send_task(name, args, kwargs, task_id=task_id, **times._asdict(), **options)

    if not TYPE_CHECKING:  # its types are Celery's

        def task(self, *args: Any, **options: Any) -> Any:
            """As in Celery. Raises InvalidOptionError for an option that no send would take: where it is written, and
            not when Celery makes the task.
            """
            make = super().task(*args, **options)
            if args:
                return make

            def checked(fun: Callable[..., Any]) -> Any:
                name = options.get("name") or self.gen_task_name(fun.__name__, fun.__module__)
                durable = options.get("durable", getattr(options.get("base"), "durable", True))
                check_task_options(name, options, durable=durable)
                return make(fun)

            return checked

    def _task_from_fun(  # type: ignore[override]  # the rest of Celery's options by keyword
        self, fun: Callable[..., Any], name: str | None = None, base: type[Task[Any, Any]] | None = None, **options: Any
    ) -> TenantTask:
        """Celery makes every task of a function here."""
        make: Any = super()._task_from_fun
        task: TenantTask = make(fun, name, base=tenant_class(base or self.Task), **options)
        return task

    def register_task(self, task: Any, **options: Any) -> Any:
        """Add a task that is a class, or an object of one."""
        made = task() if isinstance(task, type) else task
        made.__class__ = tenant_class(type(made))
        return super().register_task(made, **options)

    @contextmanager
    def producer_or_acquire(self, producer: Any = None) -> Iterator[Any]:  # type: ignore[override]
        """Celery opens this around the members of a group, which are accepted all or none."""
        with (
            groups.sent_together(partial(revoked_sends.without_revoked, self)),
            super().producer_or_acquire(producer) as acquired,
        ):
            yield acquired


def _register_own_tasks(sender: CgkCelery, **_arguments: Any) -> None:
    """The tasks of the events, once an app knows its settings."""
    register_application_events(sender)
    sender.register_task(UnhandledTask())
    sender.register_task(Ping())


def _with_own_options(task: Any, options: dict[str, Any]) -> dict[str, Any]:
    """With those that the task itself has: `apply_async` brings them, `app.send_task` does not."""
    own = task._get_exec_options()  # noqa: SLF001 - Celery's own send_task asks so
    return {**{name: value for name, value in own.items() if value is not None}, **options}


def create_app(name: str = "cgk_tasks") -> CgkCelery:
    """A Celery app with a task for every event, and with the settings of the working folder's `celeryconfig.py`, if
    there is one.
    """
    celery = CgkCelery(name)
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if importlib.util.find_spec("celeryconfig") is not None:
        celery.config_from_object(app_settings.settings_of(import_module("celeryconfig")))
    return celery


def follow_settings(celery: CgkCelery) -> None:
    """Let the app have the broker and the queues of the settings as they are now: tests change them."""
    reload(celeryconfig)
    celery.usual_queue = celeryconfig.task_default_queue
    celery.conf.update({name: value for name, value in vars(celeryconfig).items() if name.startswith(_OF_THE_BROKER)})
    celery.amqp.__dict__.pop("queues", None)
    celery.__dict__.pop("routing", None)


_apps: list[CgkCelery] = []
"""The apps of this process, in the order in which they were made."""

app: CgkCelery
"""The app of this process: the first one that the application made, or else one that is made when it is first asked
for. Not before: an app of ours would be in the way of a Django project's, which says later what its settings are.
"""


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _apps[0] if _apps else create_app()


lazy_groups.install()
extend_commands()
replace_flower_command()


@signals.import_modules.connect
def _import_jobs(sender: Any = None, **_arguments: Any) -> None:
    """A worker imports the application's job modules, and learns the events that those define."""
    if not isinstance(sender, CgkCelery):
        return
    import_job_modules()
    register_builtin_jobs()
    register_tasks_job()
    register_application_events(sender)


def register_application_events(celery: CgkCelery | None = None) -> None:
    """Give every event that was defined since the app was made its task."""
    for one in _apps if celery is None else (celery,):
        for event in event_names():
            if event not in one.tasks:
                one.register_task(event_task(event)())


@signals.celeryd_after_setup.connect
def _worker_starts(instance: Any = None, **_arguments: Any) -> None:
    app_settings.warn_of_unused(getattr(instance.app, "given_settings", {}), str(instance.app.main))
    if instance.redirect_stdouts:  # Celery does not where an application sets its logs up, as we do
        log_what_is_printed(instance.redirect_stdouts_level)


@signals.beat_init.connect
def _beat_starts(sender: Any = None, **_arguments: Any) -> None:
    app_settings.warn_of_unused(getattr(sender.app, "given_settings", {}), str(sender.app.main))


@signals.setup_logging.connect
def _set_up_logging(logfile: str | None = None, **_arguments: Any) -> None:
    """`worker --logfile`, which is where `celery multi` and `--detach` have their logs."""
    configure_logging(logfile)


Celery = CgkCelery
"""The name by which applications import it: `from cgk_tasks import Celery` in place of `from celery import Celery`."""

__all__ = ["Celery", "CgkCelery", "app", "create_app", "register_application_events"]
