"""The statements that this process executes."""

from collections.abc import Iterator
from contextlib import contextmanager

from cgk_tasks.sql import door


@contextmanager
def observed_statements() -> Iterator[list[str]]:
    """The labels of those that are executed within the block, in their order; by all threads."""
    labels: list[str] = []

    def observer(statement, _seconds, _error):
        labels.append(statement.label)

    door.observe(observer)
    try:
        yield labels
    finally:
        door.forget_observer(observer)
