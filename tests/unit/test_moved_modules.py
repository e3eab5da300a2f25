"""Modules that applications import from their old places."""

import importlib
import subprocess
import sys

import pytest

from cgk_tasks.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_place_gives_the_module_of_the_new_one_and_warns(old):
    sys.modules.pop(old, None)

    with pytest.deprecated_call(match=MOVED[old]):
        found = importlib.import_module(old)

    assert found is importlib.import_module(MOVED[old])
    assert found.__spec__.name == MOVED[old]


def test_an_old_import_works_before_anything_else_of_the_package_was_imported():
    code = (
        "from cgk_tasks.tasks.middleware import with_logging; from cgk_tasks.events.payloads import OrderCreatedPayload"
    )

    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
