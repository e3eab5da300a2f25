"""Other processes: whether one still lives, as far as this machine can tell; and one that is stopped for a moment."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_MOST_BYTES = 4096


def is_alive(pid: int) -> bool:
    """Whether there is a process with this pid. A child that was killed but not yet waited for counts as dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    fields = _stat(pid)
    return fields is None or fields[0] not in {"Z", "X"}


def is_gone(pid: int, started: int) -> bool:
    """Whether the process that had this pid and was started then has ended."""
    if not is_alive(pid):
        return True
    now = started_at(pid)
    return now is not None and now != started


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """The process does nothing inside the block, unless it is a second and more before the system stops it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    give_up = time.monotonic() + 1
    while (fields := _stat(pid)) is not None and fields[0] in {"R", "S", "D"} and time.monotonic() < give_up:
        time.sleep(0.001)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def started_at(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks since the machine was. None if this system does not tell."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


@cache
def pid_namespace() -> str | None:
    """In which processes have the same pids as here. None if this system does not tell.

    Containers may share a host's name, and machines that were copied an id; not the id of the kernel's start together
    with a namespace's number. The name is in it for kernels that are imitated.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        number = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - a Path would follow the link to nothing
    except (OSError, ValueError):
        return None
    return f"{boot}/{number}/{socket.gethostname()}"


def memory_of(pid: int) -> int | None:
    """How many bytes of a process are in memory, what it shares with its parent included. None if nobody tells."""
    try:
        pages = _read(pid, "statm").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/…/stat after the name, which may have spaces and brackets in it."""
    try:
        text = _read(pid, "stat")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields if len(fields) > 19 else None


def _read(pid: int, name: str) -> str:
    """Each heartbeat reads some of these: as a file of text one would take four times as many calls."""
    file = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST_BYTES).decode("ascii", "replace")
    finally:
        os.close(file)
