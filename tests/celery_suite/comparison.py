"""Both sides beside each other: what passes on plain Celery must pass on us."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.celery_suite import smoke
from tests.celery_suite.sides import PROCESSES, Result, run, run_again
from tests.celery_suite.source import source_distribution

_MISSING = Result("missing")


@dataclass(frozen=True)
class Comparison:
    plain: dict[str, Result]
    ours: dict[str, Result]

    @property
    def worse(self) -> dict[str, Result]:
        """What passes on plain Celery and not on us."""
        return not_passed((name for name, result in self.plain.items() if result.outcome == "passed"), self.ours)

    def table(self) -> str:
        """A line a file; then why tests do not apply, and what is worse on us."""
        files = sorted({name.partition("::")[0] for name in self.plain})
        lines = [f"{'':<44} {'tests':>6} {'plain':>6} {'ours':>6} {'n/a':>6}"]
        lines += [self._line(file) for file in files]
        lines += [self._line(""), ""]
        reasons = Counter(result.detail for result in self.plain.values() if result.outcome == "not applicable")
        lines += ["not applicable:", *(f"{number:>6}  {reason}" for reason, number in reasons.most_common()), ""]
        neither = sum(result.outcome in {"failed", "skipped", "fails as expected"} for result in self.plain.values())
        lines += [f"{neither:>6}  fail or are skipped on plain Celery with Redis too, and are not compared", ""]
        lines += ["smoke tests that need containers, and ours with their scenarios:"]
        lines += [f"  {tests}\n      {', '.join(ours)}" for tests, ours in smoke.ELSEWHERE.items()] + [""]
        if self.worse:
            lines += [f"pass on plain Celery, and not on ours ({len(self.worse)}):", listed(self.worse)]
        return "\n".join(lines)

    def _line(self, file: str) -> str:
        names = [name for name in self.plain if not file or name.partition("::")[0] == file]
        passed = {name for name in names if self.plain[name].outcome == "passed"}
        ours = sum(name in self.ours and self.ours[name].outcome == "passed" for name in passed)
        left_out = sum(self.plain[name].outcome == "not applicable" for name in names)
        return f"{file or 'all':<44} {len(names):>6} {len(passed):>6} {ours:>6} {left_out:>6}"


def not_passed(expected: Iterable[str], results: dict[str, Result]) -> dict[str, Result]:
    """Those of the tests that did not pass."""
    found = {name: results.get(name, _MISSING) for name in expected}
    return {name: result for name, result in found.items() if result.outcome != "passed"}


def listed(worse: dict[str, Result]) -> str:
    """Tests and why they failed."""
    return "\n".join(f"  {name}\n      {_reason(result)}" for name, result in worse.items())


def _reason(result: Result) -> str:
    lines = [line for line in result.detail.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E ")]
    return f"{result.outcome}: {(errors or lines or [''])[-1].strip()[:160]}"


def compare(selected: Sequence[str] = ()) -> Comparison:
    """Run both sides at the same time."""
    source_distribution()
    with ThreadPoolExecutor(2) as pool:
        sides = [pool.submit(run, side, selected, PROCESSES // 2) for side in ("plain", "ours")]
        plain, ours = (one.result() for one in sides)
    again = [name for name, result in plain.items() if result.outcome == "failed"]
    plain = run_again("plain", plain, again)
    ours = run_again("ours", ours, Comparison(plain, ours).worse)
    return Comparison(plain, ours)
