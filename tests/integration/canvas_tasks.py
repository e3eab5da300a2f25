"""An application's own Celery tasks, as the canvas tests' worker imports them."""

import os
import signal
import sys
import time
from pathlib import Path

from celery import group, signals
from celery.canvas import maybe_signature
from celery.exceptions import Ignore
from pydantic import BaseModel, model_serializer
from sqlalchemy import text

from cgk_tasks import JobContext, RetryConfig, app, define_job
from cgk_tasks.celery_app import register_application_events
from cgk_tasks.events import TenantEvent
from cgk_tasks.tenancy import current_tenant


class NotEnoughMoney(Exception):
    """An application's own exception."""


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def with_tenant_argument(tenant_id):
    return current_tenant().id, tenant_id


@app.task
def collect(values):
    return values


@app.task
def give_back(value, named=None):
    """The value, and what the function itself found its types to be."""
    return {"value": value, "types": [type(value).__name__, type(named).__name__]}


@app.task
def same(value):
    return value


@app.task
def fail(message="no"):
    raise NotEnoughMoney(message)


@app.task
def leave():
    sys.exit(3)


@app.task
def whose(*_previous):
    """The tenants so far, and this run's."""
    before = list(_previous[0]) if _previous and isinstance(_previous[0], list) else []
    return [*before, current_tenant().id]


@app.task
def whose_in_turn():
    """Sends a task from inside a task; returns its id."""
    return whose.delay().id


@app.task(bind=True)
def request_of(self, *_previous):
    names = (
        "id",
        "retries",
        "root_id",
        "parent_id",
        "group",
        "group_index",
        "args",
        "kwargs",
        "called_directly",
    )
    return {name: getattr(self.request, name) for name in names} | {"priority": self.request.delivery_info["priority"]}


@app.task(bind=True)
def retry_until(self, attempts, *values):
    """Fails with a retry until the given attempt; then returns its values' sum."""
    if self.request.retries + 1 < attempts:
        raise self.retry(countdown=0.05, exc=NotEnoughMoney(f"attempt {self.request.retries + 1}"))
    return sum(values)


@app.task(bind=True)
def count_down(self, number, step=1):
    """Retries with other arguments."""
    if number > 0:
        raise self.retry(args=(number - step,), kwargs={"step": step}, countdown=0)
    return number


@app.task(bind=True)
def retry_at(self, **when):
    raise self.retry(**when)


@app.task(bind=True)
def retry_without_raising(self):
    """Asks for a retry and goes on to its end."""
    if self.request.retries == 0:
        self.retry(countdown=0, throw=False)
    return self.request.retries


@app.task(bind=True, max_retries=1)
def never(self):
    raise self.retry(countdown=0)


@app.task(autoretry_for=(NotEnoughMoney,), retry_kwargs={"max_retries": 2, "countdown": 0})
def autoretried(path):
    note.run(path, "try")
    raise NotEnoughMoney("still not")


@app.task
def note(path, line):
    """A visible effect: a line in a file."""
    with Path(path).open("a") as file:
        file.write(f"{line}\n")
    return line


@app.task
def note_value(value, path):
    return note.run(path, value)


@app.task
def old_errback(task_id, path):
    note.run(path, task_id)


@app.task
def new_errback(request, exc, traceback, path):
    note.run(path, f"{request.id} {type(exc).__name__} {exc} {'raise NotEnoughMoney' in (traceback or '')}")


@app.task
def die_once(value, path):
    """SIGKILL of its own process in its first attempt."""
    flag = Path(path)
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value + 1


@app.task
def die_always(*_values):
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(BaseModel):
    """A result that kills its process when it is written for the second time: as the next run's argument."""

    path: str

    @model_serializer
    def write(self):
        times = len(Path(self.path).read_text()) if Path(self.path).exists() else 0
        with Path(self.path).open("a") as file:
            file.write(".")
        if times == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return "written"


@app.task
def die_while_handing_on(path):
    return Deadly(path=path)


@app.task
def work_a_little(value=0):
    time.sleep(0.02)
    return value + 1


@app.task
def wait_for(path, value=None):
    """Runs until the test makes the file."""
    while not Path(path).exists():
        time.sleep(0.01)
    return value


@app.task(bind=True)
def replaced_by_task(self, x):
    return self.replace(add.s(x, 10))


@app.task(bind=True)
def replaced_by_chain(self, x):
    return self.replace(add.s(x, 10) | add.s(100))


@app.task(bind=True)
def replaced_by_group(self, x):
    return self.replace(group(add.s(x, 1), add.s(x, 2)))


@app.task(bind=True)
def grows_its_chord(self, x):
    self.add_to_chord(add.s(x, 1))
    return x


@app.task
def ignored():
    raise Ignore


@app.task(durable=False)
def fleeting(x, path=None):
    if path:
        note.run(path, f"{x} {current_tenant().id}")
    return [x, current_tenant().id]


@app.task(durable=False)
def fleeting_failure():
    raise NotEnoughMoney


@app.task
def start(signature):
    """Sends a canvas from inside a worker; returns the id of its end."""
    return maybe_signature(signature, app=app).apply_async().id


class Touchy(Exception):
    """An exception whose constructor does not take what it keeps in args."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")


@app.task
def fail_without(path, value):
    Path(path).read_text()
    return value


@app.task
def fail_touchily():
    raise Touchy(7, "sore")


@app.task(bind=True)
def hooked(self, path, action):
    note.run(path, "run")
    if action == "fail":
        raise NotEnoughMoney(action)
    if action == "retry" and self.request.retries == 0:
        raise self.retry(countdown=0)
    return action


class Hooks(app.Task):
    """Writes down which of its hooks are called."""

    abstract = True

    def on_success(self, retval, task_id, args, kwargs):
        note.run(args[0], f"on_success {retval} {current_tenant().id}")

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note.run(args[0], f"on_failure {exc} {type(einfo).__name__}")

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        note.run(args[0], "on_retry")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note.run(args[0], f"after_return {status}")


with_hooks = app.task(hooked.run.__func__, name="tests.with_hooks", base=Hooks, bind=True)


def _write_signal(name):
    def receiver(sender=None, **arguments):
        if sender is not None and sender.name == "tests.with_hooks":
            request = arguments.get("request") or sender.request
            lacks = getattr(signals, name).providing_args - arguments.keys()
            note.run(request.args[0], f"{name} {arguments.get('state', '')} {lacks or ''}".strip())

    return receiver


if os.environ.get("CGK_JOB_MODULES"):
    for _signal in ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"):
        getattr(signals, _signal).connect(_write_signal(_signal), weak=False)


class OneJob(TenantEvent, event="canvas.one"):
    """An event with one job, in a canvas."""

    number: int


@define_job("canvas-one", event=OneJob)
def one(ctx: JobContext[OneJob]) -> int:
    return ctx.payload.number


class Writes(TenantEvent, event="canvas.writes"):
    """An event whose job writes to its tenant's database, and may die while its end is recorded."""

    order_id: str
    path: str | None = None


@define_job("canvas-writes", event=Writes)
def write(ctx: JobContext[Writes]) -> object:
    ctx.db.execute(
        text("INSERT INTO orders (order_id, run_id) VALUES (:order_id, :run_id)"),
        {"order_id": ctx.payload.order_id, "run_id": ctx.run_id},
    )
    return Deadly(path=ctx.payload.path) if ctx.payload.path else ctx.payload.order_id


class SeveralJobs(TenantEvent, event="canvas.several"):
    """An event with two jobs, in a canvas."""

    number: int


@define_job("canvas-first", event=SeveralJobs)
def first(ctx: JobContext[SeveralJobs]) -> int:
    return ctx.payload.number


@define_job("canvas-second", event=SeveralJobs, retry=RetryConfig(max_attempts=1))
def second(ctx: JobContext[SeveralJobs]) -> int:
    if ctx.payload.number < 0:
        raise NotEnoughMoney("second")
    return ctx.payload.number * 10


class NobodyListens(TenantEvent, event="canvas.nobody"):
    """An event without a job."""


register_application_events()
one_job, several_jobs, nobody_listens, writes = (
    app.tasks[event.event_name] for event in (OneJob, SeveralJobs, NobodyListens, Writes)
)


@app.task
def annotated():
    """Its attributes are changed by `task_annotations`."""


@app.task(queue="options", expires=600)
def with_options():
    """Has options of a send of its own."""


@app.task(ignore_result=True)
def unwanted():
    """Its result is nothing that JSON can say."""
    return object()


@app.task(ignore_result=True)
def numbered(number):
    return number


@app.task
def large_result(size, path):
    note.run(path, size)
    return "x" * size


@app.task
def a_result():
    return app.AsyncResult("of another")


@app.task
def a_group_result():
    return app.GroupResult("group", [app.AsyncResult("1"), app.AsyncResult("2")])


@app.task(bind=True)
def say_and_wait(self, path, state, meta):
    """Says a state of its own, then runs until the test makes the file."""
    self.update_state(state=state, meta=meta)
    return wait_for.run(path, "done")


@app.task(track_started=True)
def tracked_wait(path):
    return wait_for.run(path, "done")


@app.task
def sends_two():
    group(add.s(1, 1), add.s(2, 2)).apply_async()
    return add.delay(3, 3).id


@app.task(bind=True)
def attributes_of_request(self):
    names = ("hostname", "origin", "eta", "expires", "argsrepr", "kwargsrepr", "properties", "delivery_info")
    return {name: getattr(self.request, name) for name in names}
