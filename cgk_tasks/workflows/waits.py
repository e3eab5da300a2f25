"""What steps wait for: times, mail, the first of several, and a person's decision about an effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from cgk_tasks.runs.steps import Memo
from cgk_tasks.workflows.calls import Call
from cgk_tasks.workflows.effects import decision
from cgk_tasks.workflows.leg import Leg


class Waits:
    """Of one leg."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def decided(self, call: Call, kind: Any) -> Memo | None:
        """What a person says of an effect that may have happened; None while nobody has. kind: of its result."""
        while True:
            found = self._leg.take(call, partial(decision, call, kind), call.name)
            if found is None:
                self._leg.wait(call, call.waiting(awaits=(call.name,)), f"a decision about effect {call.name}")
                return None
            if found.state != "waiting":
                return found

    def is_slept(self, call: Call, until: datetime | float) -> bool:
        """Whether the time of a sleep is over; else it is noted that the run waits for it. until: or for how long.

        That it is over goes on record with the next step: should the clock be set back, it stays so.
        """
        if call.is_over:
            return True
        if call.memo is not None:
            if call.memo.is_due:
                self._leg.keep_later(call.ended("done"))
                return True
            wait = call.waiting(until=call.memo.until)
        else:
            wait = call.waiting(until=until) if isinstance(until, datetime) else call.waiting(delay_seconds=until)
        self._leg.wait(call, wait, f"sleep {call.name}")
        return False

    def taken(self, call: Call, mail: str, timeout: float | None, reason: str) -> Memo | None:
        """A wait for mail that is over, with the mail or because its time is; else it is noted that the run waits."""
        if call.memo is not None and call.memo.is_over:
            return call.memo
        found = self._leg.take(call, lambda payload: call.ended("done", result=payload), mail)
        if found is not None:
            return found
        if call.memo is None:
            wait = call.waiting(delay_seconds=timeout, awaits=(mail,))
        elif call.memo.is_due:
            return self._leg.keep(call, call.ended("timed_out"))
        else:
            wait = call.waiting(until=call.memo.until, awaits=(mail,))
        self._leg.wait(call, wait, reason)
        return None

    def first(self, call: Call, mails: Mapping[str, str], timers: Mapping[str, float]) -> Memo | None:
        """A wait for the first of several that is over; else it is noted that the run waits. mails: names of mail, and
        timers: seconds, each by how the workflow calls it. Mail that is there goes before a timer that is over.
        """
        if call.memo is not None and call.memo.is_over:
            return call.memo
        for name, mail in mails.items():
            found = self._leg.take(call, partial(_first, call, name), mail)
            if found is not None:
                return found
        shortest = min(timers, key=lambda name: timers[name], default=None)
        awaits = tuple(mails.values())
        if call.memo is not None and call.memo.is_due and shortest is not None:
            return self._leg.keep(call, _first(call, shortest, "null"))
        if call.memo is not None:
            wait = call.waiting(until=call.memo.until, awaits=awaits)
        else:
            wait = call.waiting(delay_seconds=None if shortest is None else timers[shortest], awaits=awaits)
        self._leg.wait(call, wait, f"the first of {', '.join([*mails, *timers])} ({call.name})")
        return None


def _first(call: Call, name: str, payload: str) -> Memo:
    """payload: JSON text."""
    return call.ended("done", result=f'{{"first": {json.dumps(name)}, "value": {payload}}}')
