"""Tasks of a Django project. Imported once Django is set up, as a project's are."""

import os
import signal
from pathlib import Path

from cgk_tasks import PermanentError, current_tenant
from cgk_tasks.django.framework import HOME, signals

if HOME == "django.tasks":
    from django.tasks import task
else:
    from django_tasks import task


@task
def nothing(*args, **kwargs):
    return None


@task
async def nothing_async(*args, **kwargs):
    return None


@task
def answer():
    return 42


@task
async def echo_async(value):
    return value


@task
def fail(message):
    raise ValueError(message)


@task
def fail_for_good():
    raise PermanentError("no such account", code="ACCOUNT_NOT_FOUND")


@task
def leave():
    raise SystemExit("the end")


@task
def return_what_json_cannot_say():
    return object()


@task(takes_context=True)
def own_id_at_the_second_attempt(context):
    if context.attempt == 1:
        raise ConnectionError("at first")
    return [context.task_result.id, context.attempt]


@task
def name_of_group(pk):
    from django.contrib.auth.models import Group

    return Group.objects.get(pk=pk).name


@task
def tenant_here():
    return current_tenant().id


@task
def enqueue_another():
    return tenant_here.enqueue().id


@task
def die_once(path):
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"


@task(backend="resolved")
def of_resolved_tenant(tenant):
    return current_tenant().id


@task(backend="elsewhere")
def of_another_database():
    return None


def tenant_of(task, args, kwargs):
    """What the option TENANT names."""
    return kwargs.get("tenant")


def note_signals(path):
    """Write a line for each signal about a task."""

    def note(word):
        def receive(sender, task_result, **_arguments):
            one, name = task_result, task_result.task.name
            with Path(path).open("a") as file:
                file.write(f"{one.id} {sender.__name__} {word} {name} {one.status} {one.attempts} {len(one.errors)}\n")

        return receive

    signals.task_started.connect(note("started"), weak=False)
    signals.task_finished.connect(note("finished"), weak=False)


if "NOTE_SIGNALS_IN" in os.environ:
    note_signals(os.environ["NOTE_SIGNALS_IN"])
