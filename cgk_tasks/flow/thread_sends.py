"""Sends of threads: what is sent while others are on their way goes together with what comes meanwhile.

One of those who wait then makes one insert, one flush and one push of all of it. Whoever finds nobody on the way sends
at once, and waits for nobody.

A turn is an object. Whoever loses it, because an exception was raised between any two steps, gives it back by losing
it; and whoever waits looks now and then whether the one it waits for still is there. So nothing stays closed.

Whoever is about to insert a run takes it first: one that waited too long and goes alone, or the one who leads. Else a
leader that was late would insert a run that has been executed since, and is history.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal
from weakref import ReferenceType, WeakSet, ref

import psycopg

from cgk_tasks.runs.models import NewRun, RunHandle
from cgk_tasks.sql.postgres import is_away

_AT_ONCE: Final = 2
"""Turns. While one waits for the disk there is room for another."""
_MOST_SENDS: Final = 500
_LOOK_SECONDS: Final = 0.02
_WAIT_SECONDS: Final = 1.0
"""So long a send waits for others to end; then it goes alone."""
_TAKEN_SECONDS: Final = 10.0
"""So long it waits for the one that leads to begin."""

Outcome = Literal["done", "unknown"] | psycopg.Error


class _Turn:
    __slots__ = ("__weakref__",)


class _Send:
    """One that waits. `woken` is released when it has a turn, or when it is known what became of it."""

    __slots__ = ("_taken", "led_by", "outcome", "run", "turn", "woken")

    def __init__(self, run: NewRun) -> None:
        self.run = run
        self.woken = threading.Lock()
        self.woken.acquire()
        self._taken = threading.Lock()
        self.turn: _Turn | None = None
        self.led_by: ReferenceType[_Turn] | None = None
        self.outcome: Outcome | None = None

    def take(self) -> bool:
        """Whether the caller is the first to ask, and so the one who inserts the run."""
        return self._taken.acquire(blocking=False)


class ThreadSends:
    """Of one runtime.

    one: accepts a run. several: accepts those that it is given when it asks for them, all or none, and asks when
    nothing is left to wait for but PostgreSQL's answer. again: accepts a run that may have been accepted already.
    """

    def __init__(
        self,
        one: Callable[[NewRun], RunHandle],
        several: Callable[[Callable[[], Sequence[NewRun]]], object],
        again: Callable[[NewRun], RunHandle],
    ) -> None:
        self._one, self._several, self._again = one, several, again
        self._turns: WeakSet[_Turn] = WeakSet()
        self._waiting: deque[_Send] = deque()

    def accept(self, run: NewRun) -> RunHandle:
        """Accept the run, alone or with others. Raises psycopg.Error."""
        turn = self._free_turn()
        if turn is None:
            return self._accept_with_others(run)
        try:
            return self._one(run)
        finally:
            self._hand_on(turn)

    def _free_turn(self) -> _Turn | None:
        turn = _Turn()
        self._turns.add(turn)
        if len(self._turns) <= _AT_ONCE:
            return turn
        self._turns.discard(turn)
        return None

    def _hand_on(self, turn: _Turn) -> None:
        """To the one who has waited longest."""
        following: _Turn | None = turn
        while following is not None:
            try:
                send = self._waiting.popleft()
            except IndexError:
                self._turns.discard(following)
                # Whoever has come before that did not find a turn; whoever comes after it does.
                following = self._free_turn() if self._waiting else None
            else:
                send.turn = following
                send.woken.release()
                return

    def _accept_with_others(self, run: NewRun) -> RunHandle:
        send = _Send(run)
        self._waiting.append(send)
        try:
            self._wait(send)
        except BaseException:
            send.take()
            if not self._left(send) and send.turn is not None:
                self._hand_on(send.turn)
            raise
        if send.turn is not None:
            self._lead(send, send.turn)
        if send.outcome == "done":
            return RunHandle(run.id)
        if isinstance(send.outcome, psycopg.Error):
            raise send.outcome
        return self._again(run)

    def _wait(self, send: _Send) -> None:
        """Until it has a turn, or somebody knows what became of it, or nobody cares for it."""
        begun = time.monotonic()
        self._call_next()  # they may have ended while it got in line
        while not send.woken.acquire(timeout=_LOOK_SECONDS):
            waited = time.monotonic() - begun
            if send.led_by is not None:
                if send.led_by() is None or (waited > _TAKEN_SECONDS and send.take()):
                    return
            elif waited < _WAIT_SECONDS:
                self._call_next()
            elif self._left(send) or (send.led_by is None and send.take()):
                return

    def _call_next(self) -> None:
        turn = self._free_turn()
        if turn is not None:
            self._hand_on(turn)

    def _left(self, send: _Send) -> bool:
        """Have it wait no longer. False if it does not: somebody has it."""
        try:
            self._waiting.remove(send)
        except ValueError:
            return False
        return True

    def _lead(self, first: _Send, turn: _Turn) -> None:
        """Send what waits, and say what became of it."""
        sends = [first]
        try:
            while self._waiting and len(sends) < _MOST_SENDS:
                try:
                    send = self._waiting.popleft()
                except IndexError:
                    break
                send.led_by = ref(turn)
                sends.append(send)
            if len(sends) == 1:
                self._one(first.run)
                first.outcome = "done"
            else:
                self._send_together(sends)
        finally:
            for send in sends[1:]:
                send.woken.release()
            self._hand_on(turn)

    def _send_together(self, sends: Sequence[_Send]) -> None:
        taken: list[_Send] = []

        def take() -> list[NewRun]:
            if not taken:  # else PostgreSQL has them tried once more
                taken.extend(send for send in sends if send is sends[0] or send.take())
            return [send.run for send in taken]

        outcome = self._outcome(take)
        take()  # it is known what became of them also where nobody has asked for them
        for send in taken:
            send.outcome = outcome

    def _outcome(self, runs: Callable[[], Sequence[NewRun]]) -> Outcome:
        """If PostgreSQL refuses one it has taken none; whose it is each finds out alone."""
        try:
            self._several(runs)
        except psycopg.Error as exc:
            return exc if is_away(exc) else "unknown"
        except Exception:  # noqa: BLE001 - each has it, or does not, when it is sent alone
            return "unknown"
        return "done"
