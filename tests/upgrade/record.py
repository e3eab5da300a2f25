"""What the senders were promised, what the jobs noted, and what the database holds in the end."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from tests.upgrade.sides import Process, query

TENANTS = ("acme", "globex", "initech")
TRIES = {"upgrade.flaky": 2, "upgrade.steps": 2}
"""Attempts without those that ended with their process; one, if not named here."""

EXPECTED_ERRORS = ("run_failed", "worker_lost", "Received unregistered task of type 'upgrade.added'")
"""Of the jobs that fail for good, of the workers that the test kills, and of the event that old workers do not know."""


@dataclass(frozen=True)
class Run:
    id: str
    event: str
    state: str
    tries: int
    attempt: int
    deaths: int
    result: object
    cancelled: bool


class Record:
    """Of one upgrade: the files in `folder`, and the database."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._read: dict[Path, int] = {}
        self._begun: Counter[str] = Counter()
        self._ended: Counter[tuple[str, str, str]] = Counter()
        (folder / "journal" / "locks").mkdir(parents=True)
        (folder / "journal" / "overlaps").mkdir()

    # ---- while it goes on -------------------------------------------------------------------------------------------

    def accepted(self) -> list[dict]:
        """What the senders noted. Raises AssertionError with the traceback of one that failed."""
        lines = [line for path in self._folder.glob("*.accepted") for line in _whole_lines(path)]
        notes = [json.loads(line) for line in lines]
        for note in notes:
            assert "error" not in note, note["error"]
        return notes

    def crossings(self) -> Counter[tuple[str, str, str]]:
        """How many runs have ended, by (event, side that sent it, side that ran it)."""
        self._read_journal()
        return self._ended.copy()

    def open_runs(self) -> int:
        return query(self._url, "SELECT count(*) FROM cgk.runs")[0][0]

    # ---- in the end -------------------------------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        rows = query(
            self._url,
            "SELECT id::text, event, state, attempt - deaths, attempt, deaths, sealed_result,"
            " cancel_requested_at IS NOT NULL FROM cgk.run_history",
        )
        runs = [Run(*row) for row in rows]
        return [replace(run, result=None if run.result is None else json.loads(run.result)) for run in runs]

    def wrong_ends(self) -> list[str]:
        """Accepted runs that are lost, or ended otherwise than expected."""
        runs = {run.id: run for run in self.runs()}
        wrong = []
        for note in self.accepted():
            if "id" not in note:
                continue
            run = runs.get(note["id"])
            if run is None:
                wrong.append(f"lost: {note}")
            elif run.state != note.get("state", "completed"):
                wrong.append(f"{run.state}: {note}")
            elif "result" in note and run.result != note["result"]:
                wrong.append(f"{run.result}: {note}")
        return wrong

    def wrong_attempts(self) -> list[str]:
        """Runs that were tried too often or not often enough, or began without a claim."""
        self._read_journal()
        wrong = []
        for run in self.runs():
            if run.cancelled or run.event == "upgrade.both":
                continue  # cancelled at any time; a parent is claimed apart from its children
            tries = TRIES.get(run.event, 1)
            if run.tries != tries or not tries <= self._begun[run.id] <= run.attempt:
                wrong.append(f"{run} began {self._begun[run.id]} times")
        return wrong

    def expected_runs(self) -> Counter[str]:
        """Runs of each event, those of schedules left out."""
        expected: Counter[str] = Counter()
        for note in self._distinct():
            expected[note["event"]] += note.get("runs", 1)
            if "follower" in note:
                expected[note["follower"]] += 1
        return expected

    def made_runs(self) -> Counter[str]:
        return Counter(run.event for run in self.runs() if not run.event.startswith("cron."))

    def expected_rows(self) -> Counter[str]:
        """Keys that jobs were to write, each once."""
        ticks = query(self._url, "SELECT tenant_id, scheduled_for FROM cgk.run_history WHERE schedule IS NOT NULL")
        keys = [key for note in self._distinct() for key in note.get("rows", ())]
        return Counter([*keys, *(f"tick-{at.isoformat()}-{tenant}" for tenant, at in ticks)])

    def written_rows(self) -> Counter[str]:
        tables = " UNION ALL ".join(f"SELECT key FROM tenant_{tenant}.written" for tenant in TENANTS)
        return Counter(key for (key,) in query(self._url, tables))

    def ids_by_shared_key(self) -> dict[str, set[str]]:
        """The runs of each idempotency key that both sides sent with."""
        ids: dict[str, set[str]] = {}
        for note in self.accepted():
            if "shared" in note:
                ids.setdefault(note["shared"], set()).add(note["id"])
        return ids

    def overlaps(self) -> list[str]:
        """Runs that were executed twice at once, and places of a limit that two had."""
        return [path.name for path in (self._folder / "journal" / "overlaps").iterdir()]

    def wrong_ticks(self) -> list[str]:
        """Seconds without a tick, and ticks that did not make one run for each tenant."""
        made = query(
            self._url,
            "SELECT scheduled_for, count(*), count(DISTINCT tenant_id) FROM cgk.run_history"
            " WHERE schedule = 'upgrade-tick' GROUP BY 1 ORDER BY 1",
        )
        gaps = [f"none after {one}" for (one, *_), (other, *_) in pairwise(made) if other - one != timedelta(seconds=1)]
        return gaps + [f"{runs} runs at {at}" for at, runs, tenants in made if (runs, tenants) != (3, 3)]

    def _distinct(self) -> Iterator[dict]:
        """Sends that an idempotency key answered with an earlier run count once."""
        seen = set()
        for note in self.accepted():
            run_id = note.get("id")
            if run_id is None or run_id not in seen:
                seen.add(run_id)
                yield note

    def _read_journal(self) -> None:
        """What jobs have noted since the last look."""
        for path in (self._folder / "journal").iterdir():
            if path.is_dir():
                continue
            with path.open() as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind("\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                mark, run_id, event, sender, side = line.split()
                if mark == "start":
                    self._begun[run_id] += 1
                elif mark == "interrupted":
                    self._begun[run_id] -= 1  # the attempt does not count
                else:
                    self._ended[event, sender, side] += 1


def _whole_lines(path: Path) -> list[str]:
    """Without one that is being written, or that a killed process left half."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def unexpected_errors(processes: Iterable[Process]) -> list[str]:
    """Lines at the level of errors, and whatever is no line of a log, of tracebacks for instance."""
    found = []
    for process in processes:
        for line in process.log.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                if "Traceback" in line or "Error" in line:
                    found.append(f"{process.name}: {line}")
                continue
            if entry["level"] in {"error", "critical"} and not entry["message"].startswith(EXPECTED_ERRORS):
                found.append(f"{process.name}: {line}")
    return found
