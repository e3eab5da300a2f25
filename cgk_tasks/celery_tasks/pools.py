"""The kinds of pools that a worker may have."""

from __future__ import annotations

from typing import Final

from cgk_tasks.errors import ConfigurationError

POOLS: Final = {
    "prefork": "celery.concurrency.prefork",
    "threads": "celery.concurrency.thread",
    "solo": "celery.concurrency.solo",
}
"""By their names after `-P`, and the modules of their classes."""


def refuse_other_pools(pool: type) -> None:
    """Raises ConfigurationError for a pool in which limits, cancelling and heartbeats do not work.

    Pools of greenlets replace what threads, signals and polling are built on. A pool of an application's own may extend
    one of those that work.
    """
    if not any(base.__module__ in POOLS.values() for base in pool.__mro__):
        name = pool.__module__.rpartition(".")[2]
        raise ConfigurationError(
            f"Workers of cgk_tasks do not run with the pool {name}, where no run can be cancelled or limited in time.",
            hint="Use -P prefork (the default), -P threads for jobs that wait much, or -P solo.",
        )
