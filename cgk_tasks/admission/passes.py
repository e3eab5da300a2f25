"""A pass: a look over the lanes that admits runs. One transaction, which reads a handful of rows whatever the backlog.

Passes come one after another, whoever makes them. Each counts the slots that are held anew, from the runs themselves,
so nothing can be left over from a run that is gone. What a process remembers between its passes are hints, where it
need not look again; they are only used if nobody else has made a pass meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from cgk_tasks.admission.memory import Memory
from cgk_tasks.admission.one_pass import Admitted, Pass
from cgk_tasks.admission.plan import Expected
from cgk_tasks.config import get_settings
from cgk_tasks.sql.postgres import Connection, execute, fetch, statements, transaction

SQL, TRANSITIONS = statements("admission"), statements("transitions")

_LANES_A_SWEEP: Final = 5000
_NOTE_SECONDS: Final = 1.0

_UNKNOWN_SECONDS: Final = 0.01
"""Of a run of an event that no worker has met yet."""
_LEAST_SECONDS: Final = 1e-4
_LONGEST_PACKET: Final = 100

MeanSeconds = Callable[[str], float | None]
"""How long a run of an event takes; None if nobody has measured one yet."""


class Passes:
    """Makes passes, and remembers between them."""

    def __init__(self, mean_seconds: MeanSeconds) -> None:
        self._mean_seconds = mean_seconds
        self._memory = Memory()
        self._note_at = 0.0
        self._swept = 0

    def make(self) -> Admitted:
        """Admit what may start now. Waits while another pass is being made. Raises psycopg.Error."""
        memory, self._memory = self._memory, Memory()  # forgotten, should this pass break off
        with transaction() as connection:
            fetch(connection, SQL["lock"])
            made = Pass(connection, memory, self._expected)
            admitted = made.run()
            self._note_now_and_then(connection, memory)
        self._memory = memory
        return admitted

    def sweep(self) -> int:
        """Find lanes whose runs nobody knows of, some thousands at a time. Returns how many there were."""
        with transaction() as connection:
            fetch(connection, SQL["lock"])
            execute(connection, SQL["forget_strayed"])
            values = {
                "after": self._swept,
                "limit": _LANES_A_SWEEP,
                "step": get_settings().priority_step_seconds,
            }
            found = fetch(connection, SQL["sweep"], values)[0]
            if found["gone"]:
                execute(connection, TRANSITIONS["leave_lanes"], {"lanes": found["gone"]})
        self._swept = found["last"] if found["looked"] == _LANES_A_SWEEP else 0
        return int(found["told"])

    def prune(self) -> bool:
        """Forget lanes and gates of keys that have not come for long. Returns whether there may be more of them."""
        with transaction() as connection:
            fetch(connection, SQL["lock"])
            gone = fetch(connection, SQL["prune_lanes"], {"limit": _LANES_A_SWEEP})
            if gates := {gate for row in gone for gate in row["gates"]}:
                execute(connection, SQL["prune_gates"], {"gates": sorted(gates)})
        return len(gone) == _LANES_A_SWEEP

    def _note_now_and_then(self, connection: Connection, memory: Memory) -> None:
        now = time.monotonic()
        if now < self._note_at:
            return
        self._note_at = now + _NOTE_SECONDS
        values = {"frontier": memory.frontier, "known": memory.known, "clocks": json.dumps(memory.clocks)}
        execute(connection, SQL["note"], values)

    def _expected(self, event: str) -> Expected:
        settings = get_settings()
        seconds = max(_LEAST_SECONDS, self._mean_seconds(event) or _UNKNOWN_SECONDS)
        packet = int(settings.packet_budget_seconds / 2 / seconds)
        return Expected(seconds, min(seconds, settings.window_seconds), max(1, min(_LONGEST_PACKET, packet)))
