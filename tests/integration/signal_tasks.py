"""Tasks whose signals are noted in a file, one line for each."""

import os
import signal
import threading
from pathlib import Path

from celery import Task, signals

from cgk_tasks import RetryConfig, RetryLater, app, define_job
from cgk_tasks.events import TenantEvent

NOTES = "SIGNAL_NOTES"


def note(line):
    with Path(os.environ[NOTES]).open("a") as file:
        file.write(f"{line}\n")


@app.task(name="signals.add")
def add(x, y=1):
    return x + y


@app.task(name="signals.wait")
def wait():
    threading.Event().wait(60)


class Told(Task):
    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note(f"on_failure {type(exc).__name__} {list(args)}")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note(f"after_return {status}")


@app.task(base=Told, name="signals.die")
def die(why):
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(base=Told, name="signals.overrun", time_limit=1)
def overrun(why):
    threading.Event().wait(60)


class Shipped(TenantEvent, event="signals.shipped"):
    number: int


@define_job("signals-ship", event=Shipped)
def ship(ctx):
    return ctx.payload.number


class Awaited(TenantEvent, event="signals.awaited"):
    how: str


@define_job("signals-await", event=Awaited, retry=RetryConfig(max_attempts=2, initial_delay=0, jitter=False))
def again_and_again(ctx):
    if ctx.payload.how == "snoozed":
        raise RetryLater(600)
    if ctx.attempt == 1:
        raise ValueError("not yet")


@app.task(bind=True, name="signals.headers")
def headers(self):
    return [self.request.headers.get("trace"), self.request.get("trace")]


def _of_request(name):
    def receiver(request=None, **arguments):
        known = " ".join(f"{key}={arguments[key]}" for key in ("terminated", "expired") if key in arguments)
        note(f"{name} {getattr(request, 'name', None) or request.task} {known}".strip())

    return receiver


def _of_task(name):
    def receiver(sender=None, **arguments):
        kwargs = {key: value for key, value in arguments.get("kwargs", {}).items() if key != "tenantId"}
        note(f"{name} {sender.name} {list(arguments.get('args', ()))} {kwargs}")

    return receiver


def _unknown(sender=None, name=None, exc=None, message=None, **_):
    note(f"task_unknown {name} {type(exc).__name__} {message.headers['tenant']}")


if os.environ.get(NOTES):
    signals.task_received.connect(_of_request("task_received"), weak=False)
    signals.task_revoked.connect(_of_request("task_revoked"), weak=False)
    signals.task_unknown.connect(_unknown, weak=False)
    signals.task_prerun.connect(_of_task("task_prerun"), weak=False)
    signals.task_failure.connect(_of_task("task_failure"), weak=False)
