"""An idle worker: its memory, and the time from its start to its first job, which waits for it."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
from harness import OURS, PLAIN, Line, Plan, Worker, repeat, wait_for_marks
from sends import Send, mark_ours, mark_plain

_SETTLE_SECONDS = 2.0


def measure(plan: Plan) -> list[Line]:
    def start_and_idle(app: tuple[str, str], send: Send) -> list[float]:
        send(0.0)
        with Worker(*app) as worker:
            (started,) = wait_for_marks(worker, 1)
            time.sleep(_SETTLE_SECONDS)
            return [memory(worker.process.pid), started - worker.started_at]

    medians = repeat(
        plan.repeats,
        {"plain": lambda: start_and_idle(PLAIN, mark_plain), "ours": lambda: start_and_idle(OURS, mark_ours)},
    )
    (plain_memory, plain_start), (ours_memory, ours_start) = medians["plain"], medians["ours"]
    return [
        Line("idle worker, memory (PSS)", plain_memory, ours_memory, "MB", at_most=1.3),
        Line("worker, start to first job", plain_start, ours_start, "s", at_most=1.3),
    ]


def memory(pid: int) -> float:
    """Megabytes of the process and all its descendants; what they share counts once (Linux)."""
    processes = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return sum(_pss_kilobytes(one) for one in processes) / 1024


def _pss_kilobytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no line Pss")
