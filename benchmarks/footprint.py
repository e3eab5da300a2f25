"""What is paid before anything is done: a worker's start, its memory and processor while idle, and one send alone.

Processor time beside the seconds that pass: on a machine that others use as well it is what can be compared.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from harness import FOLDER, OURS, PLAIN, Line, Plan, Worker, environment, repeat, wait_for_marks
from processes import kilobytes, processor_seconds, running_seconds, with_children
from sends import Send, mark_ours, mark_plain
from shared import IMPORTS, OF_A_PRODUCT

_SETTLE_SECONDS = 6.0
"""A worker of ours is idle five seconds after its last run: until then its leader looks four times a second."""


def measure(plan: Plan) -> list[Line]:
    def start_and_idle(app: tuple[str, str], send: Send, imports: str) -> list[float]:
        send(0.0)
        with environment({IMPORTS: imports}), Worker(*app) as worker:
            (started,) = wait_for_marks(worker, 1, every_seconds=0.01)
            used = processor_seconds(worker.pid)
            time.sleep(_SETTLE_SECONDS)
            megabytes, before = memory(worker.pid), running_seconds(worker.pid)
            time.sleep(plan.idle_seconds)
            idle = (running_seconds(worker.pid) - before) / plan.idle_seconds
            return [megabytes, started - worker.started_at, used, idle * 1000]

    medians = repeat(
        plan.repeats,
        {
            "plain": lambda: start_and_idle(PLAIN, mark_plain, OF_A_PRODUCT),
            "ours": lambda: start_and_idle(OURS, mark_ours, OF_A_PRODUCT),
            "plain, bare": lambda: start_and_idle(PLAIN, mark_plain, ""),
            "ours, bare": lambda: start_and_idle(OURS, mark_ours, ""),
            "plain send": lambda: one_send("plain"),
            "ours send": lambda: one_send("ours"),
        },
    )
    return [
        *of_workers(
            medians["plain"], medians["ours"], "both applications import SQLAlchemy, psycopg and pydantic", 1.1
        ),
        *of_workers(medians["plain, bare"], medians["ours, bare"], "neither imports anything itself", None),
        *of_senders(medians["plain send"], medians["ours send"]),
    ]


def of_workers(plain: Sequence[float], ours: Sequence[float], what: str, at_most: float | None) -> list[Line]:
    return [
        Line(f"idle worker, memory (PSS), {what}", plain[0], ours[0], "MB", at_most=at_most),
        Line(f"worker, start to first job, {what}", plain[1], ours[1], "s", at_most=at_most),
        Line(f"worker, start to first job, processor time, {what}", plain[2], ours[2], "s", at_most=at_most),
        Line(f"idle worker, processor time, {what}", plain[3], ours[3], "ms/s", at_most=at_most),
    ]


def of_senders(plain: Sequence[float], ours: Sequence[float]) -> list[Line]:
    return [
        Line("a new program's first send, imports included, processor time", plain[0], ours[0], "ms"),
        Line("the same, more than plain Celery's", None, ours[0] - plain[0], "ms", at_most=150),
        Line("a new program after one send, memory (PSS)", plain[1], ours[1], "MB"),
        Line("the same, more than plain Celery's", None, ours[1] - plain[1], "MB", at_most=25),
    ]


def one_send(which: str) -> list[float]:
    command = [sys.executable, str(FOLDER / "sender.py"), which]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    return [float(figure) for figure in done.stdout.split()]


def memory(pid: int) -> float:
    """Megabytes of the process and all its descendants; what they share counts once."""
    return sum(kilobytes(one, "Pss") for one in with_children(pid)) / 1024
