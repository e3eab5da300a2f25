"""Both sides beside each other: what passes on plain Celery must pass on us."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.celery_suite.sides import Result, run_part

PARTS = 2


@dataclass(frozen=True)
class Comparison:
    plain: dict[str, Result]
    ours: dict[str, Result]

    @property
    def compared(self) -> int:
        """How many tests apply and pass on plain Celery."""
        return sum(result.outcome == "passed" for result in self.plain.values())

    @property
    def worse(self) -> dict[str, Result]:
        """What passes on plain Celery and not on us."""
        missing = Result("missing")
        return {
            name: self.ours.get(name, missing)
            for name, result in self.plain.items()
            if result.outcome == "passed" and self.ours.get(name, missing).outcome != "passed"
        }

    def table(self) -> str:
        """A line a file; then why tests do not apply, and what is worse on us."""
        files = dict.fromkeys(name.partition("::")[0] for name in self.plain)
        lines = [f"{'':<44} {'tests':>6} {'plain':>6} {'ours':>6} {'n/a':>6}"]
        lines += [self._line(file) for file in files]
        lines += [self._line(""), ""]
        reasons = Counter(result.detail for result in self.plain.values() if result.outcome == "not applicable")
        lines += ["not applicable:", *(f"{number:>6}  {reason}" for reason, number in reasons.most_common()), ""]
        neither = sum(result.outcome in {"failed", "skipped", "fails as expected"} for result in self.plain.values())
        lines += [f"{neither:>6}  fail or are skipped on plain Celery with Redis too, and are not compared", ""]
        if self.worse:
            lines += [f"pass on plain Celery, and not on ours ({len(self.worse)}):"]
            lines += [f"  {name}\n      {_reason(result)}" for name, result in self.worse.items()]
        return "\n".join(lines)

    def _line(self, file: str) -> str:
        names = [name for name in self.plain if not file or name.partition("::")[0] == file]
        passed = {name for name in names if self.plain[name].outcome == "passed"}
        ours = sum(name in self.ours and self.ours[name].outcome == "passed" for name in passed)
        left_out = sum(self.plain[name].outcome == "not applicable" for name in names)
        return f"{file or 'all':<44} {len(names):>6} {len(passed):>6} {ours:>6} {left_out:>6}"


def _reason(result: Result) -> str:
    lines = [line for line in result.detail.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E ")]
    return f"{result.outcome}: {(errors or lines or [''])[-1].strip()[:160]}"


def compare(selected: Sequence[str] = ()) -> Comparison:
    """Run both sides at the same time, each in parts: the tests wait for most of their time."""
    with ThreadPoolExecutor(2 * PARTS) as pool:
        runs = {
            side: [pool.submit(run_part, side, part, PARTS, selected) for part in range(PARTS)]
            for side in ("plain", "ours")
        }
        plain, ours = (_joined(run.result() for run in runs[side]) for side in ("plain", "ours"))
        return Comparison(plain, ours)


def _joined(parts: Iterable[dict[str, Result]]) -> dict[str, Result]:
    return {name: result for part in parts for name, result in part.items()}
