"""Steps in memory: for the local provider, and for runs that nobody keeps a record of."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.runs.invoked import mail_of
from cgk_tasks.runs.steps import INTERNAL, Memo, Suspension
from cgk_tasks.runs.undo import Undo
from cgk_tasks.sql.clock import known_now

if TYPE_CHECKING:
    from cgk_tasks.tenancy.database import TenantSession


class _Mail(NamedTuple):
    """payload: JSON text."""

    name: str
    payload: str
    key: str | None


class MemoryRecord:
    """The steps of one run. now: what time it is. cancel: cancels child runs."""

    def __init__(
        self, now: Callable[[], datetime] = known_now, cancel: Callable[[Sequence[str]], object] | None = None
    ) -> None:
        self.at_failure: Memo | None = None
        self.compensates = False
        self.is_undone = False
        self._now = now
        self._cancel = cancel
        self._memos: dict[tuple[str, int], Memo] = {}
        self._mail: list[_Mail] = []
        self._keys: set[tuple[str, str | None]] = set()
        self._lock = threading.Lock()

    def load(self) -> Sequence[Memo]:
        with self._lock:
            now, memos = self._now(), sorted(self._memos.values(), key=lambda memo: memo.place)
        return [memo._replace(is_due=memo.until is not None and memo.until <= now) for memo in memos]

    def keep(self, memo: Memo, before: Sequence[Memo] = (), session: TenantSession | None = None) -> Memo:
        if session is not None:
            session.commit()
        self._write([*before, memo])
        return self._memos[memo.name, memo.nth]

    def take(self, make: Callable[[str], Memo], mail: str, before: Sequence[Memo] = ()) -> Memo | None:
        with self._lock:
            found = next((one for one in self._mail if one.name == mail), None)
            if found is not None:
                self._mail.remove(found)
        return None if found is None else self.keep(make(found.payload), before)

    def gather(
        self, make: Callable[[Mapping[str, str]], Memo | None], children: Sequence[str], before: Sequence[Memo] = ()
    ) -> Memo | None:
        with self._lock:
            mail = self._payloads()
        found = {child: mail[mail_of(child)] for child in children if mail_of(child) in mail}
        memo = make(found)
        if memo is None:
            return None
        kept, rest = self.keep(memo, before), [child for child in children if child not in found]
        if rest and self._cancel is not None:
            self._cancel(rest)
        return kept

    def deliver(self, name: str, payload: str, key: str | None = None) -> bool:
        """Keep mail. Returns False for a key that was used before."""
        with self._lock:
            if key is not None and (name, key) in self._keys:
                return False
            self._keys.add((name, key))
            self._mail.append(_Mail(name, payload, key))
            return True

    def hand_down(self, child: MemoryRecord) -> None:
        """Give another run the mail that came for this one and is not taken."""
        with self._lock:
            child._mail, child._keys = list(self._mail), {(one.name, one.key) for one in self._mail}

    def ends_wait(self, name: str) -> bool:
        """Whether mail of this name, which is there, ends one of the run's waits."""
        with self._lock:
            waits = [memo for memo in self._memos.values() if memo.state == "waiting" and name in memo.awaits]
            return any(_ends(memo, self._payloads()) for memo in waits)

    def _payloads(self) -> dict[str, str]:
        """Of the mail that is there, by its name."""
        return {one.name: one.payload for one in self._mail}

    def _write(self, memos: Sequence[Memo]) -> None:
        with self._lock:
            now = self._now()
            for memo in memos:
                known = self._memos.get((memo.name, memo.nth))
                if known is not None and known.is_over:
                    continue
                until = memo.until if memo.delay_seconds is None else now + timedelta(seconds=memo.delay_seconds)
                begun_at = now if known is None else known.begun_at
                self._memos[memo.name, memo.nth] = memo._replace(until=until, delay_seconds=None, begun_at=begun_at)

    def suspend(self, suspension: Suspension) -> datetime | None:
        """Keep what a leg left. Returns when the run goes on; None for never."""
        self._write(suspension.memos)
        with self._lock:
            mail = self._payloads()
        if any(memo.state == "waiting" and _ends(memo, mail) for memo in suspension.memos):
            return self._now()
        times = [self._memos[memo.name, memo.nth].until for memo in suspension.memos if not memo.is_over]
        return min((time for time in times if time is not None), default=None)

    def before(self, run_id: str, step: str) -> list[Memo]:
        """The steps that were done before this one. Raises InvalidOptionError where it was not done."""
        memos = self.load()
        asked = [memo for memo in memos if memo.kind not in INTERNAL]
        first = next((memo for memo in asked if memo.name == step), None)
        if first is None:
            names = ", ".join(dict.fromkeys(memo.name for memo in asked))
            raise InvalidOptionError(
                "from_step", f"{step!r} is no step that run {run_id} has done.", hint=f"It has {names or 'none'}"
            )
        begin = [memo._replace(attempts=0) for memo in memos if memo.kind == "begin"]
        undo = [memo for memo in memos if memo.kind in {"undo", "compensates"} and first.kind == "compensate"]
        return [*begin, *undo, *(memo for memo in asked if memo.is_over and memo.place < first.place)]

    def remember(self, memos: Sequence[Memo]) -> None:
        """Begin with steps that another run has done."""
        self._write(memos)
        self.compensates = any(memo.kind == "compensates" for memo in memos)
        self.is_undone = any(memo.kind == "undo" for memo in memos)

    def undo(self, why: Undo) -> None:
        """The next legs undo what the run has done."""
        if not self.is_undone:
            self.is_undone = True
            self._write([why.memo])

    def note_failure(self) -> None:
        """A leg has failed outside of any step, and another one follows."""
        if self.at_failure is not None:
            self._write([self.at_failure])


def _ends(memo: Memo, mail: Mapping[str, str]) -> bool:
    """Whether a wait is over with this mail."""
    came = [mail[name] for name in memo.awaits if name in mail]
    if memo.wakes == "any":
        return bool(came)
    is_failure = memo.wakes == "first_failure" and any(json.loads(one)["state"] != "completed" for one in came)
    return is_failure or len(came) == len(memo.awaits)
