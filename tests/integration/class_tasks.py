"""Tasks of classes as applications of plain Celery have them: the classes know nothing of cgk_tasks."""

from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from celery import Task, shared_task

from cgk_tasks import app
from cgk_tasks.tenancy import current_tenant

_web_application = ContextVar("web_application", default=None)


class Tidy(Task):
    """Takes away white space."""

    def before_start(self, task_id, args, kwargs):
        self.request.prepared = args[0]

    def clean(self, text):
        return text.strip()


@app.task(base=Tidy, bind=True)
def tidy(self, text):
    return f"{self.clean(text)} of {current_tenant().id}, prepared for {self.request.prepared!r}"


@shared_task(base=Tidy, bind=True)
def shared_tidy(self, text):
    return self.clean(text)


class Greet(Task):
    name = "tests.greet"

    def run(self, name, loudly=False):
        return f"{name}!" if loudly else name


greet = app.register_task(Greet())
greet_by_class = app.register_task(type("GreetByClass", (Greet,), {"name": "tests.greet_by_class"}))


@contextmanager
def application_context():
    token = _web_application.set("shop")
    try:
        yield
    finally:
        _web_application.reset(token)


class WebTask(Task):
    """As the documentation of Flask has it."""

    def __call__(self, *args, **kwargs):
        with application_context():
            return self.run(*args, **kwargs)


class WrappingTask(Task):
    """As others have it."""

    def __call__(self, *args, **kwargs):
        with application_context():
            return super().__call__(*args, **kwargs)


def application_and_tenant():
    return [_web_application.get(), current_tenant().id]


in_web = app.task(application_and_tenant, name="tests.in_web", base=WebTask)
wrapped = app.task(application_and_tenant, name="tests.wrapped", base=WrappingTask)


@app.task(base=WebTask, bind=True, max_retries=2, name="tests.retrying")
def retrying(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(name="tests.telemetry_in_web", base=WebTask, durable=False)
def telemetry(path):
    Path(path).write_text(f"{_web_application.get()} {current_tenant().id}")


@app.task
def send_telemetry(path):
    telemetry.delay(path)


_before, app.Task = app.Task, WebTask
of_the_apps_class = app.task(application_and_tenant, name="tests.of_the_apps_class")
app.Task = _before
