import gc
import subprocess
import sys
import weakref

import pytest

from cgk_tasks.collector import collector_paused

IMPORTS = """
import gc
import cgk_tasks

before = gc.get_stats()
cgk_tasks.send_job
print(gc.get_stats() == before, gc.isenabled())
"""


class Node:
    def __init__(self):
        self.itself = self


@pytest.fixture
def unfrozen():
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_nothing_is_collected_in_the_block():
    with collector_paused():
        assert not gc.isenabled()


def test_the_collector_works_again_after_the_block():
    with collector_paused():
        pass
    assert gc.isenabled()


def test_the_collector_works_again_after_an_error_in_the_block():
    with pytest.raises(ImportError), collector_paused():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_garbage_of_the_block_is_collected_later():
    with collector_paused():
        seen = weakref.ref(Node())
    gc.collect()
    assert seen() is None


@pytest.mark.usefixtures("unfrozen")
def test_what_the_block_makes_is_spared_the_collections_of_young_objects():
    with collector_paused():
        made = Node()
    assert not any(one is made for generation in (0, 1) for one in gc.get_objects(generation))


@pytest.mark.usefixtures("unfrozen")
def test_what_an_application_has_frozen_stays_frozen():
    gc.freeze()
    frozen = gc.get_freeze_count()
    with collector_paused():
        Node()
    assert gc.get_freeze_count() > frozen // 2  # what is freed meanwhile, counts no more


def test_the_import_of_a_public_name_collects_nothing():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
