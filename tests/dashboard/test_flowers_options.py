"""Which of Flower's defaults are ours."""

import pytest
from flower import command
from tornado.options import options

from cgk_tasks.dashboard.serving import _set_defaults


@pytest.fixture
def flowers_options():
    before = options.as_dict()
    yield options
    for name, value in before.items():
        setattr(options, name, value)


def test_flower_keeps_ten_thousand_tasks_in_memory_so_that_it_stops_growing(flowers_options):
    assert flowers_options.max_tasks > 10_000
    _set_defaults()
    assert flowers_options.max_tasks == 10_000


def test_whoever_starts_it_can_say_otherwise(flowers_options):
    _set_defaults()
    command.apply_options("flower", ["--max_tasks=500"])
    assert flowers_options.max_tasks == 500
