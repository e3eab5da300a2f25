"""A message goes to an idle child in the moment in which the main process has read it.

Celery's pool of processes writes to a child when the event loop finds its pipe writable, one turn of the loop after the
message came. Before that the loop asks Redis for the next message, looks at its timers, and registers and forgets
pipes. A lone job waits for all of that.
"""

from __future__ import annotations

from typing import Any

from kombu.asynchronous import get_event_loop


def write_at_once(pool: Any) -> None:
    """Have the pool write what waits to children that do nothing. Where it cannot do so now, its loop does later."""
    processes: Any = getattr(pool, "_pool", None)
    waiting = getattr(processes, "outbound_buffer", None)
    if not waiting:
        return  # there is nothing, or another kind of pool
    write = getattr(get_event_loop(), "consolidate_callback", None)
    if write is None:
        return
    idle = processes._all_inqueues - processes._busy_workers - processes._active_writes  # noqa: SLF001 - Celery keeps them there
    if idle:
        write(sorted(idle)[: len(waiting)])  # always the same one first, which is warm
