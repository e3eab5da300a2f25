"""One word for one thing: words that were given up for standard terms do not come back."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, name_of

# The pattern, and what to write in its place.
GIVEN_UP = {
    r"steward": "supervisor",
    r"leash": "parent_death",
    r"way[_ ]back": "login_redirect",
    r"\bentrance": "authentication",
    r"login[_ ]throttle|throttle of logins": "login_limiter",
    r"quiet_requests": "unlogged_requests",
    r"surroundings": "environment",
    r"keep[_ ]house": "housekeeping",
    r"patiently": "retry_while_unavailable",
    r"\bunsent\b": "upstream_failed, undispatched",
    r"\b_?hand(s|ed|ing)?[-_ ]+((it|them|this|these|those|one|ids?|runs?|the \w+)[-_ ])?overs?\b": "dispatch",
    r"\b(take|takes|taken|taking|took) ((it|them|runs?|its runs|their runs|the runs?) )?back\b": "reclaim",
    r"\bforeign messages?\b": "external message",
    r"\bplain(?: Celery)? tasks?'s\b|\bplain task's\b": "adapted task",
    r"\bheart\b": "heartbeat",
    r"stumbl": "failed",
    r"keeps? (its|their|his|her) word": "",
    r"rests? a moment": "pauses",
    r"speaks? up": "",
}
# Numbers are called figures where they were measured (benchmarks, performance) or are a business's own (the catalog).
COUNTERS_NOT_FIGURES = (
    "cgk_tasks/worker", "cgk_tasks/monitoring", "cgk_tasks/sql/metrics.sql", "cgk_tasks/celery_tasks",
    "docs/reference/metrics.md",
)  # fmt: skip
OLD_COLUMNS = re.compile(r"\b(handed_over_at|hand_overs|put_off|paused_queues)\b")
LEFT_ALONE = re.compile(r"^(CHANGELOG\.md|cgk_tasks/migrations/|cgk_tasks/moved\.py)")
READABLE = {".py", ".pyi", ".sql", ".html", ".css", ".md", ".toml", ".yml", ".json"}
PLACES = ("cgk_tasks", "docs", "deploy", "scripts", "README.md", "celeryconfig.py", "beat_schedule.py")


@cache
def texts() -> list[tuple[str, str]]:
    starts = [ROOT / place for place in PLACES]
    files = [file for start in starts for file in (sorted(start.rglob("*")) if start.is_dir() else [start])]
    return [
        (name_of(file), OLD_COLUMNS.sub("", file.read_text(encoding="utf-8")))
        for file in files
        if file.suffix in READABLE and not LEFT_ALONE.match(name_of(file))
    ]


def places_of(pattern: re.Pattern[str], of: list[tuple[str, str]]) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for name, text in of
        for match in pattern.finditer(text)
    ]


@pytest.mark.parametrize("pattern", GIVEN_UP)
def test_a_word_that_was_given_up_stays_away(pattern):
    assert places_of(re.compile(pattern, re.IGNORECASE), texts()) == [], f"say: {GIVEN_UP[pattern]}"


def test_what_workers_count_is_called_counters():
    ours = [(name, text) for name, text in texts() if name.startswith(COUNTERS_NOT_FIGURES)]
    assert places_of(re.compile(r"figures", re.IGNORECASE), ours) == []


def test_no_module_has_a_word_that_was_given_up_as_its_name():
    names = {path.stem for path in Path(ROOT / "cgk_tasks").rglob("*.py")}
    assert names & {"following", "heart", "figures", "activity", "foreign", "plain", "shared"} == set()
