"""Where the microseconds go: `python benchmarks/profiles.py send|bulk|worker [--functions] [--write]`.

Samples whole stacks with py-spy, waiting included, and gives each sample to the module that was at work: the innermost
frame that belongs to a package; what the standard library does counts for its caller. Needs leave to trace processes
(root in a container, or kernel.yama.ptrace_scope=0). `--functions` names the function too. `--write` puts the table
into docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from draining import COMPLETED, SPAN
from harness import FOLDER, OURS, PACKETS, Worker, clear, servers, setting

from cgk_tasks import send_jobs
from cgk_tasks.sql.postgres import autocommit

PAGE = FOLDER.parent / "docs" / "explanation" / "performance.md"
RATE = 100
"""Samples a second and process."""

_SENDS, _BULK, _TIMES, _BACKLOG = 10_000, 10_000, 20, 60_000
_SMALLEST_SHARE = 0.01

WAITS = {
    # (file ends with, function): in these frames the process does nothing but wait.
    ("psycopg/connection.py", "wait"): "waiting for PostgreSQL",
    ("psycopg/_connection_base.py", "wait"): "waiting for PostgreSQL",
    ("psycopg/waiting.py", ""): "waiting for PostgreSQL",
    ("redis/_parsers/socket.py", "_read_from_socket"): "waiting for Redis",
    ("redis/connection.py", "send_packed_command"): "waiting for Redis",
    ("billiard/connection.py", ""): "pipe between Celery's main process and its children",
    ("billiard/queues.py", ""): "pipe between Celery's main process and its children",
}

STEPS = (
    # The first of these with one of its functions in the stack; without any, Celery and we are busy with the message.
    ("claim", ("claim (cgk_tasks/runs/store.py",)),
    ("finish", ("flush (cgk_tasks/worker/recorder.py", "finish (cgk_tasks/runs/ends.py")),
    ("run", ("run_one (cgk_tasks/worker/pipeline.py",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=PROFILES, nargs="+")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument("--functions", action="store_true", help="by function, not by module")
    options = parser.parse_args()
    for what in options.what:
        with servers():
            profile = PROFILES[what]()
        table = table_of(profile, by_function=options.functions)
        print(f"{what}\n\n{table}")
        if options.write and not options.functions:
            write(what, table)
    return 0


@dataclass(frozen=True)
class Profile:
    """Samples by stack. `microseconds`: of one thing done that a sample stands for. `per`: what that thing is."""

    stacks: Counter[str]
    microseconds: float
    per: str
    has_steps: bool = False


def profile_send() -> Profile:
    from sends import send_ours  # the jobs need the servers that run now

    def send() -> int:
        for number in range(_SENDS):
            send_ours(number)
        return _SENDS

    send_ours(0)
    return Profile(*sampled_here(send), "a send")


def profile_bulk() -> Profile:
    from sends import ours_order
    from throughput import learn_run_times

    learn_run_times()
    clear()
    with setting(*PACKETS):
        send_jobs(map(ours_order, range(1_000)))  # prepares statements, connects

        def send() -> int:
            for _ in range(_TIMES):
                send_jobs(map(ours_order, range(_BULK)))
            return _TIMES * _BULK

        return Profile(*sampled_here(send), "a run sent in bulk")


def profile_worker() -> Profile:
    """Both children of a worker while they drain a backlog."""
    from sends import ours_order
    from throughput import learn_run_times

    learn_run_times()
    clear()
    with setting(*PACKETS), Worker(*OURS) as worker:

        def drain() -> float:
            """Seconds from the first claim to the last completion."""
            with autocommit() as connection:
                connection.execute("DELETE FROM cgk.run_history")
                send_jobs(map(ours_order, range(_BACKLOG)))
                worker.wait(lambda: connection.execute(COMPLETED, ("order.created",)).fetchone()[0] == _BACKLOG)
                begun, ended = connection.execute(SPAN, ("order.created",)).fetchone()
                return float(ended - begun)

        drain()
        alone = drain()
        samplers = [Sampler(child.pid) for child in psutil.Process(worker.pid).children()]
        time.sleep(1.0)  # py-spy reads the process first
        watched = drain()
        stacks = sum((sampler.stop() for sampler in samplers), Counter())
    stacks = Counter({stack: count for stack, count in stacks.items() if in_packet(stack)})
    print(f"drained in {alone:.2f} s without the sampler, in {watched:.2f} s with it", file=sys.stderr)
    return Profile(stacks, 1e6 / RATE / _BACKLOG * alone / watched, "a run", has_steps=True)


def in_packet(stack: str) -> bool:
    """Between the receipt of a message and its end; an idle child waits outside."""
    return "/celery/app/trace.py" in stack


class Sampler:
    """py-spy on a process, until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._file = Path(tempfile.mkstemp(prefix="cgk-profile-", suffix=".txt")[1])
        program = Path(sys.executable).with_name("py-spy")
        self._process = subprocess.Popen(
            [
                program, "record", "--pid", str(pid), "--format", "raw", "--output", self._file, "--rate", str(RATE),
                "--idle", "--threads", "--nolineno", "--full-filenames", "--duration", "600",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def stop(self) -> Counter[str]:
        """The samples of the main thread, by stack: frames from the outermost to the innermost, separated by `;`."""
        self._process.send_signal(2)  # as Ctrl-C: it writes what it has
        _, complaint = self._process.communicate(timeout=60)
        text = self._file.read_text()
        self._file.unlink()
        if not text:
            raise RuntimeError(f"py-spy saw nothing: {complaint[-500:]}")
        stacks: Counter[str] = Counter()
        for line in text.splitlines():
            stack, _, count = line.rpartition(" ")
            if "MainThread" in stack.partition("(/")[0]:
                stacks[stack] += int(count)
        return stacks


def sampled_here(work: Callable[[], int]) -> tuple[Counter[str], float]:
    """Stacks of this process while `work` runs, and the microseconds of each thing done that a sample stands for.

    The time is taken before, without the sampler, which slows the process down a little.
    """
    begun = time.perf_counter()
    done = work()
    alone = (time.perf_counter() - begun) / done * 1e6
    sampler = Sampler(os.getpid())
    time.sleep(1.0)  # py-spy reads the process first
    done = work()
    stacks = sampler.stop()
    stacks = Counter({stack: count for stack, count in stacks.items() if f"{work.__qualname__} (" in stack})
    print(f"{alone:,.1f} µs without the sampler, {stacks.total() * 1e6 / RATE / done:,.1f} µs with it", file=sys.stderr)
    return stacks, alone / stacks.total()


def table_of(profile: Profile, *, by_function: bool = False) -> str:
    """A Markdown table: microseconds and share by module, and by step for the worker's runs."""
    tally: Counter[tuple[str, ...]] = Counter()
    for stack, count in profile.stacks.items():
        frames = [_frame(text) for text in stack.split(";")]
        step = (step_of(stack),) if profile.has_steps else ()
        function = f" `{frames[-1][0]}`" if by_function else ""
        tally[*step, f"{module_of(frames)}{function}"] += count
    total = tally.total()
    rest = sum(count for count in tally.values() if count < total * _SMALLEST_SHARE)
    blank = [""] if profile.has_steps else []

    def row(count: int, *names: str) -> list[str]:
        return [*names, f"{count * profile.microseconds:,.1f}", f"{count / total:.0%}"]

    rows = [
        [*(["step"] if blank else []), "where", f"µs {profile.per}", "share"],
        [*(["---"] if blank else []), "---", "---:", "---:"],
        *(row(count, *names) for names, count in tally.most_common() if count >= total * _SMALLEST_SHARE),
        row(rest, *blank, "everything else"),
        row(total, *blank, "**all**"),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def _frame(text: str) -> tuple[str, str]:
    """Function and file of a frame as py-spy writes it: `function (file)`."""
    match = re.fullmatch(r"(.*) \((.*?)(?::\d+)?\)", text)
    return (match[1], match[2]) if match else (text, "")


def module_of(frames: list[tuple[str, str]]) -> str:
    """Who was at work in this stack."""
    for depth, (function, file) in enumerate(reversed(frames)):
        for (ending, name), meaning in WAITS.items():
            if file.endswith(ending) and name in ("", function.rpartition(".")[2]) and depth == 0:
                return meaning
        if "/site-packages/" in file:
            return file.partition("/site-packages/")[2].split("/")[0].removesuffix(".py")
        ours = file.rpartition("/cgk_tasks/")[2] if "/cgk_tasks/" in file else None
        if ours is not None:
            return f"cgk_tasks.{ours.removesuffix('.py').replace('/', '.')}"
        if file.startswith(str(FOLDER)):
            return "the benchmark itself"
    return "Python"


def step_of(stack: str) -> str:
    shortened = re.sub(r"\((?:[^()]*/)?(?=(?:cgk_tasks|celery|billiard)/)", "(", stack)
    for name, marks in STEPS:
        if any(mark in shortened for mark in marks):
            return name
    return "message"


def write(what: str, table: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- profile {what}: benchmarks/profiles.py -->\n", f"<!-- end of profile {what} -->"
    pattern = re.compile(f"({re.escape(begin)}).*?({re.escape(end)})", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE} has no place for the profile of {what}: {begin.strip()} … {end}")
    PAGE.write_text(pattern.sub(lambda match: f"{match[1]}{table}{match[2]}", page), encoding="utf-8")


PROFILES = {"send": profile_send, "bulk": profile_bulk, "worker": profile_worker}

if __name__ == "__main__":
    raise SystemExit(main())
