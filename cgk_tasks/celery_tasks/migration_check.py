"""What will differ when an application of plain Celery imports its app from here: `cgk-tasks migrate-check`.

Settings and tasks are looked at as they are once everything is imported; how tasks are sent is looked for in the
modules that define them. An error in sight is better than one in production, but what is not found may still differ.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Literal

import celery
from celery import Celery, Task
from celery.app.defaults import DEFAULTS

from cgk_tasks.broker.envelope import TENANT_HEADER
from cgk_tasks.celery_tasks import app_settings
from cgk_tasks.celery_tasks.task import EventTask
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, ConfigurationError

Effect = Literal["refused", "different"]


@dataclass(frozen=True, slots=True)
class Finding:
    """effect: refused, it does not start or is not sent; different, it runs and does something else."""

    effect: Effect
    where: str
    what: str
    advice: str


def application(name: str) -> tuple[Celery[Any], ModuleType]:
    """The app that `celery -A name` would find, with its tasks imported. Raises ConfigurationError."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:
        raise ConfigurationError(
            f"The module {module_name} cannot be imported: {type(exc).__name__}: {exc}",
            hint="Name the module that has the Celery app, as for `celery -A`, from the folder in which that works.",
        ) from exc
    named = [attribute] if attribute else ["app", "celery", *vars(module)]
    for one in named:
        app = getattr(module, one, None)
        app = getattr(app, "celery", app) if isinstance(app, ModuleType) else app
        if isinstance(app, Celery):
            app.loader.import_default_modules()
            app.finalize()
            return app, module
    raise ConfigurationError(
        f"The module {module_name} has no Celery app.", hint="Name it: cgk-tasks migrate-check shop.celery:app"
    )


_NOT_THE_APPLICATIONS: Final = ("celery.", "cgk_tasks.")


def findings(app: Celery[Any], module: ModuleType) -> list[Finding]:
    """Everything that is known to differ, the refusals first."""
    tasks = [task for name, task in sorted(app.tasks.items()) if not name.startswith(_NOT_THE_APPLICATIONS)]
    tasks = [task for task in tasks if not isinstance(task, EventTask)]  # those of an app that is imported from here
    modules = {one.__name__: one for one in (module, *filter(None, (sys.modules.get(t.__module__) for t in tasks)))}
    found = [*_of_app(app), *_of_settings(app), *_of_entries(app)]
    found += [finding for task in tasks for finding in _of_task(task)]
    found += _of_early_acknowledged([task.name for task in tasks if not task.acks_late])
    found += [finding for one in modules.values() for finding in _of_source(one)]
    return sorted(found, key=lambda one: one.effect, reverse=True)


def _of_app(app: Celery[Any]) -> Iterator[Finding]:
    kind = type(app)
    if kind is not Celery and kind.__module__.partition(".")[0] != "cgk_tasks":
        name = f"{kind.__module__}.{kind.__qualname__}"
        yield Finding("different", name, "The app's class is your own.", "Derive it from cgk_tasks.Celery.")


def _given(app: Celery[Any]) -> dict[str, Any]:
    known: Mapping[str, Any] = DEFAULTS
    return {name: app.conf[name] for name in known if app.conf[name] != known[name]}


def _of_settings(app: Celery[Any]) -> Iterator[Finding]:
    given, package = _given(app), app_settings.package_settings()
    probe = celery.Celery(set_as_current=False)
    try:
        probe.conf.update(app_settings.laid_over(package, given))
    except ConfigurationError as exc:
        yield _refused("settings", exc)
        return
    for refusal in app_settings.refusals(probe.conf, package):
        yield _refused("settings", refusal)
    if given.get("worker_pool") in {"eventlet", "gevent"}:
        what = f"worker_pool is {given['worker_pool']!r}, in which a run cannot be interrupted or timed out."
        yield Finding("refused", "settings", what, "Use prefork, or threads for jobs that wait for others.")
    for name in app_settings.unused(given):
        yield Finding("different", f"settings: {name}", "Results are in PostgreSQL, with their runs.", "Leave it out.")
    if given.get("task_send_sent_event"):
        what = "No event says that a run was sent: events are about messages, which may carry several runs."
        yield Finding("different", "settings: task_send_sent_event", what, "Read the record: `cgk-tasks runs list`.")


def _refused(where: str, exc: CgkTasksError) -> Finding:
    return Finding("refused", where, exc.text, exc.hint or "")


def _of_entries(app: Celery[Any]) -> Iterator[Finding]:
    if get_settings().periodic_tasks_tenant is not None:
        return
    for name, entry in (app.conf.beat_schedule or {}).items():
        kwargs, options = entry.get("kwargs") or {}, entry.get("options") or {}
        named = (options.get("headers") or {}).get(TENANT_HEADER) or kwargs.get("tenant_id") or kwargs.get("tenantId")
        if not named:
            advice = "Set CGK_PERIODIC_TASKS_TENANT (* is every active tenant), or give the entry a tenant header."
            yield Finding("refused", f"beat_schedule: {name}", "The entry names no tenant.", advice)


_OWN_PARTS: Final = {
    "Request": "celery.worker.request:Request",
    "Strategy": "celery.worker.strategy:default",
}


def _of_task(task: Task[Any, Any]) -> Iterator[Finding]:
    if task.serializer not in {None, "json", "application/json"}:
        what = f"Its serializer is {task.serializer!r}: arguments are kept as JSON."
        yield Finding("refused", task.name, what, "Leave it out; send ids, or what JSON can say.")
    if task.rate_limit:
        what = "rate_limit counts messages, and a message may bring many runs."
        yield Finding("different", task.name, what, "Use with_rate_limit inside the task: it counts for all workers.")
    for name, usual in _OWN_PARTS.items():
        part = getattr(task, name, usual)
        if isinstance(part, str) and part != usual and not part.startswith("cgk_tasks."):
            what = f"Its own {name} is not used."
            yield Finding("different", task.name, what, "Use middleware, or the task's hooks.")


def _of_early_acknowledged(names: list[str]) -> Iterator[Finding]:
    if names:
        what = "Acknowledged early, they are lost with their worker in plain Celery; here the run is repeated."
        advice = "Write redelivery=False for those that must not run twice, and make the others safe to repeat."
        yield Finding("different", ", ".join(names), what, advice)


_NO_EFFECT: Final = frozenset({"connection", "producer", "compression", "delivery_mode", "retry_policy", "reply_to"})
_SENDS: Final = frozenset({"apply_async", "send_task"})


def _of_source(module: ModuleType) -> Iterator[Finding]:
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    sends = any(_called(call) in {*_SENDS, "delay"} for call in calls)
    for call in calls:
        where = f"{module.__name__}, line {call.lineno}"
        name = _called(call)
        given = {one.arg: one.value for one in call.keywords}
        if name in _SENDS:
            yield from _of_send(where, given)
        if name == "Broadcast":
            what = "A Broadcast queue gives a message to every worker; a run is executed once."
            yield Finding("refused", where, what, "Send one run for each, or use a fanout exchange of your own.")
        if name in {"Thread", "ThreadPoolExecutor"} and sends:
            what = "A thread begins without a tenant, and a send needs one."
            yield Finding("different", where, what, "Wrap the function: keep_tenant(function).")


def _of_send(where: str, given: Mapping[str | None, ast.expr]) -> Iterator[Finding]:
    serializer = given.get("serializer")
    if isinstance(serializer, ast.Constant) and serializer.value not in {"json", None}:
        what = f"The serializer is {serializer.value!r}: arguments are kept as JSON."
        yield Finding("refused", where, what, "Leave it out; send ids, or what JSON can say.")
    for name in sorted(_NO_EFFECT & _names(given)):
        yield Finding("different", where, f"{name} has no effect: the run is in PostgreSQL first.", "Leave it out.")


def _names(given: Iterable[str | None]) -> set[str]:
    return {name for name in given if name is not None}


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
