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
