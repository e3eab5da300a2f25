"""Waiting for a condition with a deadline, in place of sleeping."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from cgk_tasks import get_job_status
from cgk_tasks.errors import BrokerError
from cgk_tasks.runs.models import RunStatus

T = TypeVar("T")


def busyness() -> float:
    """How many times longer a second of work takes on this machine now than on a quiet one."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Patience:
    """Seconds of a quiet machine. On one that is busy with something else they last longer: with ten processes for each
    core, a second of patience takes ten.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._looked_at = time.monotonic()

    def is_over(self) -> bool:
        now = time.monotonic()
        self._left -= (now - self._looked_at) / busyness()
        self._looked_at = now
        return self._left < 0


def wait_until(condition: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """The first true value of `condition`. Fails after `timeout` seconds, as a quiet machine has them."""
    patience = Patience(timeout)
    clock = threading.Event()
    while not (value := condition()):
        if patience.is_over():
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        clock.wait(0.02)
    return value


def get(result: Any, **options: Any) -> Any:
    """What a result of Celery's gives. It is waited for up to 20 seconds, as a quiet machine has them."""
    return result.get(**{"timeout": 20 * busyness(), "interval": 0.02, **options})


def accepted(send: Callable[[], T]) -> T:
    """What `send` gives once the broker takes it. On a busy machine a push may take longer than a sender waits."""

    def attempt() -> T | None:
        try:
            return send()
        except BrokerError:
            return None

    return cast("T", wait_until(attempt, what="the broker takes it"))


def wait_exit(process: subprocess.Popen[bytes], timeout: float = 20.0) -> int:
    """The exit code of a process once it has ended."""
    wait_until(lambda: process.poll() is not None, timeout, f"process {process.pid} ended")
    return process.returncode


def wait_closed(run_id: str, timeout: float = 20.0) -> RunStatus:
    """The run once it is closed."""
    return wait_until(
        lambda: status if (status := get_job_status(run_id)).is_closed else None,
        timeout,
        f"run {run_id} closed, it is {get_job_status(run_id).state}",
    )


def wait_state(run_id: str, *states: str, timeout: float = 20.0) -> RunStatus:
    return wait_until(
        lambda: status if (status := get_job_status(run_id)).state in states else None,
        timeout,
        f"run {run_id} in {states}",
    )
