"""The pool of a worker that executes nothing, for tests of what its supervisor does."""

from typing import Any

from cgk_tasks.worker.lease import Lease
from cgk_tasks.worker.pool import Pool
from cgk_tasks.worker.process_state import AtWork


def idle_pool(**otherwise: Any) -> Pool:
    """otherwise: what is not as it is of most."""
    values: dict[str, Any] = {
        "name": "idle@test", "queues": lambda: ["none"], "processes": lambda: 0, "events": dict, "executes": list,
        "at_work": lambda: AtWork(0, busy=False), "is_at_work": lambda _row: False, "lease": Lease(), "held": list,
        "interrupt": lambda _pid, _ids: None, "fence": lambda: None, "has_killed": lambda _pid: False,
        "looked_after": lambda: None, "over_limit": list, "is_over_limit": lambda _run: False,
        "kill": lambda _pids: None, "on_timed_out": lambda _id, _seconds: None, "on_closed": lambda _run: None,
    }  # fmt: skip
    return Pool(**values | otherwise)
