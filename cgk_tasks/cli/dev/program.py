"""One program of the session: started, shown, restarted, and stopped with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib.resources import files

from cgk_tasks.cli.dev.lines import Lines

STOP_SECONDS = 20.0
"""A program that is asked to stop has so long; then it is killed. A worker ends its jobs itself before that."""

_PARENT_DEATH = files("cgk_tasks.embedded") / "parent_death.py"
_LONGEST_LINE = 1024 * 1024
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_LIVED_WELL_SECONDS = 10.0


class Program:
    """A `python -m ...` of which one process runs at a time, in a session of its own: Ctrl-C does not reach it."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        lines: Lines,
        *,
        restarts: bool = False,
    ) -> None:
        self.name = name
        self._arguments = list(arguments)
        self._lines = lines
        self._restarts = restarts
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._reloading = False
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Start it and keep it. Returns when it was stopped, or ended and is not one that restarts."""
        pause = _FIRST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while not self._stopping:
            began = loop.time()
            code = await self._once()
            if self._stopping:
                return
            if self._reloading:
                self._reloading = False
                self._wake.clear()
                continue
            how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
            if not self._restarts:
                self._lines.show(self.name, f"{how}. Stop with Ctrl-C and start again to have it back.")
                return
            pause = _FIRST_PAUSE_SECONDS if loop.time() - began > _LIVED_WELL_SECONDS else pause
            self._lines.show(self.name, f"{how}; it starts again in {pause:g} s")
            await self._rest(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", str(_PARENT_DEATH), str(os.getpid()), sys.executable, *self._arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True, limit=_LONGEST_LINE,
        )  # fmt: skip
        shown = asyncio.create_task(self._show_output(self._process))
        code = await self._process.wait()
        self._signal(signal.SIGKILL)  # what it left behind in its session
        await shown
        return code

    async def _show_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line over the limit; its rest comes as the next one
                continue
            if not line:
                return
            self._lines.show(self.name, line.decode(errors="replace"))

    async def _rest(self, seconds: float) -> None:
        """A pause that ends early when there is something to do: a stop, or new code to try."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()
        self._reloading = False

    async def reload(self) -> None:
        """Warm: what runs may end within the worker's grace, then the program starts again with the new code."""
        self._reloading = True
        self._wake.set()
        await self._end()

    async def stop(self) -> None:
        """Ask it to stop, wait, and kill it if that takes more than 20 s. Safe to repeat."""
        self._stopping = True
        self._wake.set()
        await self._end()

    def kill(self) -> None:
        """Kill it and everything in its session at once."""
        self._stopping = True
        self._signal(signal.SIGKILL)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._lines.show(self.name, f"did not stop within {STOP_SECONDS:g} s and is killed")
            self._signal(signal.SIGKILL)
            await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            # The session's group has the number of its first process, and lives until the last one has ended.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
