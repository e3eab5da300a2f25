"""Admission without a lane: a worker that has claimed runs which nobody waits before executes them at once, if their
limits have room.

It is a pass in small. It holds the passes' lock, and counts the slots that are held; its runs get one. If somebody
makes a pass, or others wait in the queue or at one of the limits, the runs go into their lane: their turn is for a
pass to say.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from cgk_tasks.admission.gates import gate_of, room_at
from cgk_tasks.runs.store import Claimed
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import Connection, execute, fetch, statements

SQL, TRANSITIONS = statements("admission"), statements("transitions")

_NOTE_SECONDS: Final = 1.0


class InPlace:
    """What a worker's process admits by itself."""

    def __init__(self) -> None:
        self._note_at = 0.0

    def admit(self, connection: Connection, runs: Sequence[Claimed], lane: int, limits: int, worker_id: str) -> bool:
        """Whether these runs of one lane, which has so many limits, may be executed now, one after another. They have a
        slot then. Raises psycopg.Error.
        """
        with connection.transaction():
            if not any(row["yes"] for row in fetch(connection, SQL["try_lock_if_none_waits"], {"lane": lane})):
                return False
            rows = fetch(connection, SQL["gates_of_lane"], {"lane": lane})
            if len(rows) != limits:
                return False
            held = fetch(connection, SQL["usage_as_noted"])
            used = Counter(gate for row in held for gate in row["gates"])
            now = rows[0]["now"]
            gates = [gate_of(row, lending=False) for row in rows]
            for gate in gates:
                wanted = 1 if gate.bucket is None else len(runs)
                if room_at(gate, used[gate.id], now, most=len(runs)) < wanted:
                    return False
            values = {
                "ids": [run.id for run in runs],
                "attempts": [run.attempt for run in runs],
                "lane": lane,
                "worker_id": worker_id,
            }
            fetch(connection, TRANSITIONS["admit_running"], values)
            tats = {gate.id: gate.bucket.after(len(runs), now).tat for gate in gates if gate.bucket is not None}
            if tats:
                columns = {"gate": list(tats), "tat": list(tats.values()), "opens_at": [None] * len(tats)}
                execute(connection, SQL["settle_gates"], columns)
            self._note_now_and_then(connection, sorted({row["slot"] for row in held}))
        return True

    def _note_now_and_then(self, connection: Connection, slots: list[int]) -> None:
        if slots and time.monotonic() >= self._note_at:
            self._note_at = time.monotonic() + _NOTE_SECONDS
            execute(connection, SQL["note_slots"], {"frontier": slots[-1] + 1, "known": slots})


IN_PLACE = Part(InPlace)
