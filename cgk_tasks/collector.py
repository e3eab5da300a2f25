"""Python's garbage collector, which while modules are imported would look at all that they make again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """For a block that makes many objects which stay, and hardly any garbage: imports. No collection looks at them
    before the first one of everything, which takes the garbage as well.
    """
    was_enabled = gc.isenabled()
    has_frozen = gc.get_freeze_count() > 0
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not has_frozen:  # else what the application shares with its forks would come back as well
                gc.freeze()
                gc.unfreeze()  # back from there, objects are among the oldest
            gc.enable()
