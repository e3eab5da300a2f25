"""How a guard moves: from what its runs saw, to how many may be on at once and whether it is closed.

It begins at the most that is declared. A success adds 1/limit, so that a limit of n is n + 1 after n successes. Where
the partner asks to wait (429), the limit is halved, and the guard is closed for as long as it asks. After five failures
in a row it is closed for a time, then one run at a time tries; when one gets through, the guard is open at half of what
it was.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

FAILURES_TO_CLOSE: Final = 5
_LONGEST_PAUSE_SECONDS: Final = 300.0
"""Each probe that fails doubles the pause before the next one, up to this."""

State = Literal["open", "throttled", "failing", "shut"]
"""throttled: the partner asked to wait. failing: it did not answer as it should, several times in a row. shut: by hand.
"""


class Report(NamedTuple):
    """What runs saw since the last report. successes: that were answered. others: that ended in a way which says
    nothing of the partner. failures: since the last success. asked: how often the partner asked to wait, the last time
    at `asked_at`, until `until` (seconds since 1970).
    """

    successes: int = 0
    others: int = 0
    failures: int = 0
    asked: int = 0
    asked_at: float = 0.0
    until: float = 0.0


class GuardState(NamedTuple):
    """limit: how many may be on at once, with a fraction. failures: in a row. closures: for failures, in a row.
    opens_at: until when it was or is closed (seconds since 1970).
    """

    state: State
    limit: float
    failures: int = 0
    closures: int = 0
    opens_at: float = 0.0

    def is_closed(self, now: float) -> bool:
        return self.state != "open" and self.opens_at > now

    @property
    def at_once(self) -> int:
        """How many may be on, whenever it is not closed."""
        return 1 if self.state == "failing" else math.floor(self.limit)


def moved(guard: GuardState, report: Report, now: float, *, most: int, probe_after: float) -> GuardState:
    """The guard after a report. most, probe_after: as it is declared."""
    if guard.limit > most:
        guard = guard._replace(limit=float(most))
    if guard.state == "shut" and guard.is_closed(now):
        return guard
    if guard.state == "failing":
        return _while_failing(guard, report, now, probe_after)
    if report.asked:
        return _asked_to_wait(guard, report, now)
    failures = report.failures if report.successes else guard.failures + report.failures
    if failures >= FAILURES_TO_CLOSE:
        return _failing(guard._replace(limit=max(1.0, guard.limit / 2), failures=failures), now, probe_after)
    guard = guard._replace(failures=failures)
    if guard.is_closed(now):  # of runs that had begun before
        return guard
    closures = 0 if report.successes else guard.closures
    return guard._replace(state="open", limit=_grown(guard.limit, report.successes, most), closures=closures)


def _grown(limit: float, successes: int, most: int) -> float:
    for _ in range(successes):
        if limit >= most:
            break
        limit += 1 / limit
    return min(limit, float(most))


def _asked_to_wait(guard: GuardState, report: Report, now: float) -> GuardState:
    """Runs that were on together are told the same, one after another: the limit is halved once for all of them."""
    opens_at = max(guard.opens_at, report.until)
    if report.asked_at <= guard.opens_at:
        return guard._replace(state="throttled" if opens_at > now else guard.state, opens_at=opens_at)
    return guard._replace(state="throttled", limit=max(1.0, guard.limit / 2), opens_at=opens_at)


def _failing(guard: GuardState, now: float, probe_after: float) -> GuardState:
    longest = max(probe_after, _LONGEST_PAUSE_SECONDS)
    pause = min(longest, probe_after * 2.0 ** min(guard.closures, 60))
    return guard._replace(state="failing", closures=guard.closures + 1, opens_at=now + pause)


def _while_failing(guard: GuardState, report: Report, now: float, probe_after: float) -> GuardState:
    """After a probe; or of runs that had begun before the guard was closed."""
    if report.asked:
        return guard._replace(opens_at=max(guard.opens_at, report.until))
    if report.failures:
        return guard if guard.is_closed(now) else _failing(guard, now, probe_after)
    if report.successes or report.others:
        return guard._replace(state="open", failures=0, opens_at=min(guard.opens_at, now))
    return guard
