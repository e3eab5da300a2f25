"""The processes of the private servers: which ones run, how to stop them, and the watchdog.

A server's processes are known by their name and their working folder. PostgreSQL and Redis are started in
their data folder, and every process they fork stays there. That needs no pid file, which can be stale and
name a pid that belongs to somebody else by now.

The watchdog is this file, run as a script by the process that owns the servers. It sees the owner end,
however it ends, and stops the servers. So that it is small and starts at once, this module imports nothing of
cgk_tasks.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

Process: TypeAlias = Any  # psutil.Process: imported where it is used, and without type hints

STATE_FILE = "services.json"
LOCK_FILE = "lock"
STOP_SECONDS = 15.0  # an orderly stop may take this long; a kill follows
LOCK_SECONDS = 60.0
POLL_SECONDS = 0.02
WATCH_SECONDS = 0.2

_SERVER_NAMES = frozenset({"initdb", "postgres", "redis-server", "valkey-server"})


def server_processes(*data_folders: Path) -> list[Process]:
    """The living server processes that work in one of these data folders. Zombies are not living."""
    import psutil  # type: ignore[import-untyped]

    wanted = {str(folder) for folder in data_folders}
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] in _SERVER_NAMES:
            with contextlib.suppress(psutil.Error):
                if process.cwd() in wanted:
                    found.append(process)
    return found


def main_process(data_folder: Path) -> Process | None:
    """The server itself, not the processes it has forked; None when it does not run."""
    mains = _mains(server_processes(data_folder))
    return mains[0] if mains else None


def is_alive(process: Process) -> bool:
    """Whether this very process still runs: not another one with its pid, and not a zombie."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def stop(*data_folders: Path) -> None:
    """Stop the servers of these data folders, all at once. Safe to repeat.

    SIGINT is an orderly stop for both: PostgreSQL ends its sessions and writes a checkpoint, Redis writes its
    append-only file. What is left after 15 seconds is killed.
    """
    processes = server_processes(*data_folders)
    for process in _mains(processes):
        _signal(process, signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    while any(is_alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    kill(*data_folders)


def kill(*data_folders: Path) -> None:
    """Kill (SIGKILL) the servers of these data folders with all their processes, and wait for their end.

    Raises TimeoutError when one of them hangs in the system for 15 seconds.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while processes := server_processes(*data_folders):
        if time.monotonic() > deadline:
            raise TimeoutError(f"these processes do not end, even when killed: {[p.pid for p in processes]}")
        for process in processes:
            _signal(process, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def started_at(pid: int) -> float | None:
    """When the living process with this pid began, in seconds since 1970; None when there is none."""
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if is_alive(process):
            return float(process.create_time())
    return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one process at a time starts or stops its servers.

    Raises TimeoutError when another one holds it for 60 seconds.
    """
    with (folder / LOCK_FILE).open("a") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{folder / LOCK_FILE} is held by another process") from None
                time.sleep(POLL_SECONDS)
        yield


def remove(paths: Iterable[str | Path]) -> None:
    """Remove folders with all they hold; missing ones are fine."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def watch(owner_pid: int, folder: Path, data_folders: list[Path]) -> None:
    """Wait for the end of the owner, this process's parent; then stop its servers and clean up."""
    while os.getppid() == owner_pid:
        time.sleep(WATCH_SECONDS)
    if not folder.exists():  # removed under the servers' feet
        stop(*data_folders)
        return
    with locked(folder):
        state_file = folder / STATE_FILE
        try:
            state = json.loads(state_file.read_text())
        except FileNotFoundError:
            return
        if state["owner_pid"] != owner_pid:
            return  # a new owner has cleaned up and started servers of its own in the meantime
        stop(*data_folders)
        state_file.unlink()
        remove(state["remove"])


def _mains(processes: list[Process]) -> list[Process]:
    import psutil

    pids = {process.pid for process in processes}
    mains = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.ppid() not in pids:
                mains.append(process)
    return mains


def _signal(process: Process, number: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
