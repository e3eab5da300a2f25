"""A pass: a look over the lanes that admits runs. One transaction, which reads a handful of rows whatever the backlog.

Passes come one after another, whoever makes them. Each counts the slots that are held anew, from the runs themselves,
so nothing can be left over from a run that is gone. What a process remembers between its passes are hints, where it
need not look again; they are only used if nobody else has made a pass meanwhile.
"""

from __future__ import annotations

import json
import time
from typing import Final

from psycopg import errors as pg_errors

from cgk_tasks.admission.memory import Memory
from cgk_tasks.admission.one_pass import Admitted, Pass
from cgk_tasks.admission.plan import RUNS_A_PASS, Expected
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.admission.window import UNKNOWN_SECONDS, MeanSeconds, expected_of
from cgk_tasks.config import get_settings
from cgk_tasks.logger import get_logger
from cgk_tasks.sql.postgres import Connection, execute, fetch, statements, transaction

SQL, GUARDS, TRANSITIONS = statements("admission"), statements("guards"), statements("transitions")

_LANES_A_SWEEP: Final = 5000
_NOTE_SECONDS: Final = 1.0
_LOCKED_SECONDS: Final = 60.0
"""After a pass met a run that somebody has locked, those that follow pass over such runs. That costs them a lock of
each run before its change.
"""

log = get_logger("cgk_tasks.admission")


class Passes:
    """Makes passes, and remembers between them."""

    def __init__(self, mean_seconds: MeanSeconds) -> None:
        self._mean_seconds = mean_seconds
        self._memory = Memory()
        self._note_at = 0.0
        self._swept = 0
        self._skip_locked_until = 0.0

    def make(self, *, waits: bool = True, most: int = RUNS_A_PASS) -> Admitted:
        """Admit what may start now, no more than so many runs and a packet. While another pass is being made, this one
        waits for its end, or is none. What somebody else has locked stays held. Raises psycopg.Error.
        """
        try:
            return self._make(waits=waits, most=most)
        except pg_errors.LockNotAvailable:
            self._skip_locked_until = time.monotonic() + _LOCKED_SECONDS
            hint = "An open transaction cancels or signals it, or has read it for a change: see pg_locks."
            log.warning("held_run_locked", hint=hint)
        return self._make(waits=waits, most=most)

    def _make(self, *, waits: bool, most: int) -> Admitted:
        with transaction() as connection:
            if not fetch(connection, SQL["lock" if waits else "try_lock"])[0].get("yes", True):
                return Admitted()
            memory, self._memory = self._memory, Memory()  # forgotten, should this pass break off
            skips_locked = time.monotonic() < self._skip_locked_until
            made = Pass(connection, memory, self._expected, most, skips_locked=skips_locked)
            admitted = made.run()
            self._note_now_and_then(connection, memory)
        self._memory = memory
        return admitted

    def sweep(self) -> int:
        """Find lanes whose runs nobody knows of, some thousands at a time. Returns how many there were."""
        values = {"after": self._swept, "limit": _LANES_A_SWEEP}
        with transaction() as connection:
            fetch(connection, SQL["by_index"])
            found = fetch(connection, SQL["untold"], values)[0]
        told = 0
        if found["lanes"] or found["gone"] or found["have_strayed"]:
            told = self._tell(found["lanes"], found["gone"])
        self._swept = found["last"] if found["looked"] == _LANES_A_SWEEP else 0
        return told

    def _tell(self, lanes: list[int], gone: list[int]) -> int:
        values = {"lanes": lanes, "step": get_settings().priority_step_seconds}
        with transaction() as connection:
            fetch(connection, SQL["lock"])
            execute(connection, SQL["forget_strayed"])
            told = fetch(connection, SQL["tell_untold"], values)[0]["told"]
            if gone:
                execute(connection, TRANSITIONS["leave_lanes"], {"lanes": gone})
        return int(told)

    def charge_overtime(self) -> None:
        """Have tenants pay for what their runs take beyond what was expected of them."""
        values = {
            "unknown": UNKNOWN_SECONDS,
            "budget": get_settings().packet_budget_seconds,
            "oldest": self._memory.oldest,
        }
        with transaction() as connection:
            fetch(connection, SQL["lock"])
            execute(connection, SQL["charge_overtime"], values)

    def prune(self) -> bool:
        """Forget lanes and gates of keys that have not come for long. Returns whether there may be more of them."""
        with transaction() as connection:
            fetch(connection, SQL["lock"])
            gone = fetch(connection, SQL["prune_lanes"], {"limit": _LANES_A_SWEEP})
            if gates := {gate for row in gone for gate in row["gates"]}:
                execute(connection, SQL["prune_gates"], {"gates": sorted(gates)})
                if SWITCH.current().has_guards:
                    execute(connection, GUARDS["forget_states"])
        return len(gone) == _LANES_A_SWEEP

    def _note_now_and_then(self, connection: Connection, memory: Memory) -> None:
        now = time.monotonic()
        if now < self._note_at:
            return
        self._note_at = now + _NOTE_SECONDS
        values = {"frontier": memory.frontier, "known": memory.known, "clocks": json.dumps(memory.clocks)}
        execute(connection, SQL["note"], values)

    def _expected(self, event: str) -> Expected:
        return expected_of(self._mean_seconds(event))
