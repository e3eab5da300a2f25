"""`parent_death.py PARENT_PID COMMAND...` runs a command that ends when its parent ends, even if that was killed.

A script of its own that imports nothing of cgk_tasks: it becomes the command (exec) in a moment. Only Linux can do
that; elsewhere the command simply runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def run(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the signal was asked for
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - the command is the caller's


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2:])
