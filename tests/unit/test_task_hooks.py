"""What a Celery task is told of a run is gone with the run."""

import gc
import weakref
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from celery import Celery

from cgk_tasks.celery_tasks.hooks import TaskHooks
from cgk_tasks.runs.store import Claimed

NOW = datetime(2026, 11, 30, tzinfo=UTC)
RUN = Claimed(
    "01a22cb3-defb-7705-80f8-204ae4fb9e16", "acme", "test.hooked", None, "cgk", 5, b"{}", None, 1, 0, NOW, NOW, NOW,
    None, None,
)  # fmt: skip


def do_nothing():
    pass


@pytest.fixture
def no_collector():
    gc.disable()
    yield
    gc.enable()


def test_a_runs_request_is_no_work_for_the_garbage_collector(no_collector):
    task = Celery("hooked", set_as_current=False).task(name="test.hooked")(do_nothing)
    hooks = TaskHooks(task, RUN, calls_hooks=False)
    hooks.begin(SimpleNamespace(ctx=SimpleNamespace(payload=None)))
    request = weakref.ref(task.request_stack.top)
    assert request().id == RUN.id
    hooks.leave()
    del hooks
    assert request() is None
