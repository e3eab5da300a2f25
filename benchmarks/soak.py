"""A day at full size: whether anything grows that should not, is lost, or is done twice.

    python benchmarks/soak.py [--runs N] [--tenants N] [--minutes N] [--write]

A day of 1,000,000 runs of 1,000 tenants is compressed into an hour: schedules, retries, delays, limits, plans and
workflows, and floods of single tenants, on two cores with PostgreSQL, Redis, a worker, a beat, a sender, the dashboard
and the exporter of metrics. Prints what it saw. Exit 1 if a figure is not flat, a run was lost, or anything was done
twice. A whole day, and `--write`, write benchmarks/SOAK.md and docs/images/soak.svg.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import cycle
from typing import Final
from urllib.request import urlopen

import soak_page
import soak_record
from harness import FOLDER, OURS, PACKETS, TENANT, Workers, celery_worker, environment, servers
from shared import client
from soak_day import SENT, Day, Sent, plan_of, tenant_id
from soak_figures import Observer, Sample
from soak_seen import Seen

from cgk_tasks import embedded
from cgk_tasks.flow.plans import set_plan, set_tenant_limits
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import add_tenant

WHOLE = Day(1_000_000, 1_000, 55)
FILE = FOLDER / "SOAK.md"
IMAGE = FOLDER.parent / "docs" / "images" / "soak.svg"

SETTINGS = {
    "CGK_JOB_MODULES": "soak_jobs",
    "CGK_TENANT_SETUP": "soak_jobs:create_table",
    "CGK_LOG_LEVEL": "ERROR",
    "CGK_DASHBOARD_OPEN_ON_LOOPBACK": "true",
    "CGK_EXPORTER": "127.0.0.1:0",
    PACKETS[0]: PACKETS[1],
}
COMMANDS = {
    "worker": celery_worker(*OURS),
    "beat": [sys.executable, "-m", "celery", "-A", "cgk_tasks", "beat", "--pidfile=", "--loglevel", "ERROR"],
    "dashboard": [sys.executable, "-m", "cgk_tasks.cli", "dashboard", "--port", "0"],
    "metrics": [sys.executable, "-m", "cgk_tasks.cli", "metrics"],
}
PAGES = ("/runs", "/tenants", "/queues", "/schedules", "/dead-letters", "/runs?state=failed", "/audit")

_SAMPLES: Final = 20
_LONGEST_SAMPLE_SECONDS: Final = 60.0
_VISIT_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 180.0
"""Without a run that ends."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=WHOLE.runs, help=f"runs of the day; {WHOLE.runs:,}")
    parser.add_argument("--tenants", type=int, default=WHOLE.tenants, help=f"tenants; {WHOLE.tenants:,}")
    parser.add_argument("--minutes", type=float, default=WHOLE.minutes, help=f"length of the day; {WHOLE.minutes:g}")
    parser.add_argument("--write", action="store_true", help="write the report, though the day is a smaller one")
    options = parser.parse_args()
    day = Day(options.runs, options.tenants, options.minutes)
    with servers() as services, environment(SETTINGS):
        prepare(day)
        seen = Life(day, services).live()
        page, picture = soak_page.page(seen), soak_page.picture(seen)
    print(page)
    if options.write or (day.runs >= WHOLE.runs and day.tenants >= WHOLE.tenants):
        FILE.write_text(page, encoding="utf-8")
        IMAGE.write_text(picture, encoding="utf-8")
    return 0 if seen.is_right else 1


def prepare(day: Day) -> None:
    """The tables of beat, the tenants and their plans. The one of the other benchmarks goes: schedules are for all."""
    say(f"{day.tenants:,} tenants ...")
    subprocess.run([sys.executable, "-m", "cgk_tasks.cli", "migrate"], check=True, cwd=FOLDER, stdout=sys.stderr)
    set_plan("free", at_once=2, starts=(10, 1))
    set_plan("pro", weight=4, at_once=20)
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.tenants WHERE id = %s", [TENANT])
    for number in range(day.tenants):
        add_tenant(tenant_id(number))
        if plan := plan_of(number, day.tenants):
            set_tenant_limits(tenant_id(number), plan=plan)


class Life:
    """A day, from the first send to the end of the last run."""

    def __init__(self, day: Day, services: embedded.Services) -> None:
        self._day, self._services = day, services
        self._every = min(_LONGEST_SAMPLE_SECONDS, day.seconds / _SAMPLES)
        self._samples: list[Sample] = []
        self._pages: list[tuple[float, float]] = []
        self._begun = 0.0

    def live(self) -> Seen:
        with ExitStack() as stack:
            running = {name: stack.enter_context(Workers(command)) for name, command in COMMANDS.items()}
            urls = [
                _url_of(running["dashboard"], r"dashboard: (\S+)/overview "),
                _url_of(running["metrics"], r"(http\S+)/metrics"),
            ]
            day = self._day
            command = [sys.executable, "soak_sender.py", *map(str, (day.runs, day.tenants, day.minutes))]
            begun, self._begun = database_now(), time.monotonic()
            running["sender"] = stack.enter_context(Workers(command))
            self._look_until_sent(running, *urls)
            day_seconds = self._now
            self._drain(running)
            drain_seconds = self._now - day_seconds
        with client() as broker:
            sent = Sent(**json.loads(broker.get(SENT)))
        pages = [(at / day_seconds, seconds) for at, seconds in self._pages]
        record, counts = soak_record.read(begun, self._every), soak_record.counts(sent)
        return Seen(day, self._every, day_seconds, sent.waited, drain_seconds, self._samples, record, counts, pages)

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _look_until_sent(self, running: Mapping[str, Workers], dashboard: str, metrics: str) -> None:
        observer = Observer(self._services, {name: one.pid for name, one in running.items()})
        sender, pages = running["sender"].processes[0], cycle(PAGES)
        while sender.poll() is None:
            if self._now >= len(self._samples) * self._every:
                self._look(observer)
            if self._now >= len(self._pages) * _VISIT_SECONDS:
                self._pages.append((self._now, _visit(dashboard + next(pages))))
                _visit(f"{metrics}/metrics")
            _check_alive(running)
            time.sleep(0.1)
        if sender.returncode:
            raise RuntimeError(f"the sender did not do it:\n{running['sender'].said()[-4000:]}")
        if self._now - self._samples[-1].at > self._every / 2:
            self._look(observer)

    def _look(self, observer: Observer) -> None:
        one = observer.look()
        self._samples.append(one)
        memory = ", ".join(f"{name} {size:.0f}" for name, size in one.memory.items())
        say(
            f"{one.at:.0f} s: {one.open_runs:,} open, {one.held:,} held, {one.tables['runs'].dead:,} dead; MB: {memory}"
        )

    def _drain(self, running: Mapping[str, Workers]) -> None:
        """Until no run is open. Beat makes no more."""
        beat = running["beat"].processes[0]
        beat.send_signal(signal.SIGTERM)
        beat.wait(30)
        least, give_up = soak_record.open_runs(), time.monotonic() + _PATIENCE_SECONDS
        while (left := soak_record.open_runs()) and time.monotonic() < give_up:
            if left < least:
                least, give_up = left, time.monotonic() + _PATIENCE_SECONDS
            time.sleep(0.2)


def _url_of(program: Workers, pattern: str) -> str:
    """Where it listens, as it says when it has started."""
    program.wait(lambda: re.search(pattern, program.said()) is not None)
    found = re.search(pattern, program.said())
    assert found is not None
    return found[1]


def _visit(url: str) -> float:
    begun = time.perf_counter()
    with urlopen(url, timeout=60) as answer:
        answer.read()
    return time.perf_counter() - begun


def _check_alive(running: Mapping[str, Workers]) -> None:
    for name, one in running.items():
        if name != "sender" and one.have_ended:
            raise RuntimeError(f"{name} has ended:\n{one.said()[-4000:]}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
