"""What the tests of the examples share: jobs in this process, and an application without servers."""

import os
from functools import cache
from importlib import import_module

import pytest

from cgk_tasks.config import use_settings
from cgk_tasks.schedules.lookup import find_schedule
from cgk_tasks.schedules.schedule import add_schedules, remove_schedule
from cgk_tasks.testing import LocalJobs


@pytest.fixture
def local_jobs():
    with LocalJobs() as jobs:
        yield jobs


@pytest.fixture
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    yield
    monkeypatch.undo()
    use_settings(None)


@pytest.fixture(scope="module")
def reports():
    """The example with a schedule, which is known while its tests last: other tests say which schedules there are."""
    module, schedule = _imported("tests.examples.reports", "begin-report")
    add_schedules(schedule)
    yield module
    remove_schedule(schedule.name)


@cache
def _imported(module, schedule):
    return import_module(module), find_schedule(schedule)
