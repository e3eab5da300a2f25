"""What processes take: memory and processor time (Linux)."""

from __future__ import annotations

from pathlib import Path

import psutil


def with_children(pid: int) -> list[int]:
    """A process and all its descendants."""
    return [pid, *children(pid)]


def children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def kilobytes(pid: int, *kinds: str) -> int:
    """Of the process's memory, as /proc/PID/smaps_rollup calls it. `Pss`: each has its part of what they share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = {line.partition(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return sum(found[kind] for kind in kinds)


def running_seconds(pid: int) -> float:
    """Processor time of the threads that a process and its descendants have now: to the nanosecond, where others are
    counted in hundredths of a second.
    """
    tasks = [task for one in with_children(pid) for task in Path(f"/proc/{one}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def processor_seconds(pid: int) -> float:
    """Of a process and all its descendants, also those that have ended."""
    total, root = 0.0, psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # ended meanwhile: its parent's times have it
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
