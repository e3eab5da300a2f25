"""One queue: its window, its lanes, its gates, and who had its workers in the last hour."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cgk_tasks.admission.plan import Expected
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.admission.window import UNCLAIMED_LOOKED_AT, crowd, expected_of, room_in
from cgk_tasks.broker.packets import run_times
from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.data.gates import Gates, gates_of
from cgk_tasks.dashboard.data.lanes import Lanes, lanes_of
from cgk_tasks.dashboard.data.queries import if_migrated, read_transaction
from cgk_tasks.dashboard.data.used_hour import UsedHour, hour_of_queue, used_parts
from cgk_tasks.flow.crowded import is_fair
from cgk_tasks.flow.queues import Pause, paused_queues
from cgk_tasks.sql.postgres import Connection


@dataclass(frozen=True, slots=True)
class Window:
    """How much the broker may hold for the queue. processes: runs that its living workers execute at once. seconds: of
    work; unclaimed: runs that are dispatched and not begun, up to `most`; room: seconds that are left. lanes_wait:
    whether a lane is open. is_fair: whether runs wait in lanes while the queue is crowded.
    """

    processes: int
    seconds: float
    unclaimed: int
    room: float
    lanes_wait: bool
    is_fair: bool
    most: int = UNCLAIMED_LOOKED_AT

    @property
    def is_crowded(self) -> bool:
        return self.lanes_wait or self.room <= 0


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue as of now. lanes, gates, window: None while an upgrade is under way; hour too, until the last step."""

    queue: str
    pause: Pause | None
    window: Window | None
    lanes: Lanes | None
    gates: Gates | None
    hour: UsedHour | None


def queue_view(queue: str, tenant_id: str | None = None) -> QueueView:
    """The queue; with the lanes and gates of one tenant alone, if it is given. Raises QueryTimeoutError."""
    pause = next((one for one in paused_queues() if one.queue == queue), None)
    if not SWITCH.current().has_lanes:
        return QueueView(queue, pause, None, None, None, None)
    hour = if_migrated(lambda connection: hour_of_queue(connection, queue))
    lanes = if_migrated(lambda connection: lanes_of(connection, queue=queue, tenant_id=tenant_id))
    gates = if_migrated(lambda connection: gates_of(connection, queue=queue, tenant_id=tenant_id))
    if lanes is not None and hour is not None:
        lanes = _with_used(queue, lanes)
    return QueueView(queue, pause, if_migrated(lambda connection: _window(connection, queue)), lanes, gates, hour)


def _with_used(queue: str, lanes: Lanes) -> Lanes:
    with read_transaction() as connection:
        parts = used_parts(connection, [queue], [line.tenant_id for line in lanes.lines])
    lines = (replace(line, used=parts.get((queue, line.tenant_id), 0.0)) for line in lanes.lines)
    return replace(lanes, lines=tuple(lines))


def _window(connection: Connection, queue: str) -> Window:
    found = crowd(connection, queue)
    room = max(0.0, room_in(found.processes, found.unclaimed, _expected))
    return Window(
        found.processes, get_settings().window_seconds * max(1, found.processes), len(found.unclaimed),
        room, found.lanes_wait, is_fair(queue) and SWITCH.current().is_fair,
    )  # fmt: skip


def _expected(event: str) -> Expected:
    return expected_of(run_times().mean_seconds(event))
