"""Steps in memory: for the local provider, and for runs that nobody keeps a record of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cgk_tasks.runs.steps import Memo, Suspension
from cgk_tasks.sql.clock import known_now

if TYPE_CHECKING:
    from cgk_tasks.tenancy.database import TenantSession


class MemoryRecord:
    """The steps of one run. now: what time it is."""

    def __init__(self, now: Callable[[], datetime] = known_now) -> None:
        self.at_failure: Memo | None = None
        self._now = now
        self._memos: dict[tuple[str, int], Memo] = {}
        self._mail: list[tuple[str, str]] = []
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
            found = next((one for one in self._mail if one[0] == mail), None)
            if found is not None:
                self._mail.remove(found)
        return None if found is None else self.keep(make(found[1]), before)

    def deliver(self, name: str, payload: str, key: str | None = None) -> bool:
        """Keep mail. Returns False for a key that was used before."""
        with self._lock:
            if key is not None and (name, key) in self._keys:
                return False
            self._keys.add((name, key))
            self._mail.append((name, payload))
            return True

    def hand_down(self, child: MemoryRecord) -> None:
        """Give a child run the mail that came for this one."""
        with self._lock:
            child._mail, child._keys = list(self._mail), set(self._keys)

    def has_mail(self) -> bool:
        """Whether there is mail that the run waits for."""
        with self._lock:
            awaited = {name for memo in self._memos.values() if memo.state == "waiting" for name in memo.awaits}
            return any(name in awaited for name, _ in self._mail)

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
        if self.has_mail():
            return self._now()
        times = [self._memos[memo.name, memo.nth].until for memo in suspension.memos if not memo.is_over]
        return min((time for time in times if time is not None), default=None)

    def note_failure(self) -> None:
        """A leg has failed outside of any step, and another one follows."""
        if self.at_failure is not None:
            self._write([self.at_failure])
