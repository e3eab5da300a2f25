"""Two tenants in one queue: how long the runs of a quiet one wait while the other's flood is worked off.

    python benchmarks/fairness.py

Measures that twice, in the order in which runs were sent and by shares, and draws docs/images/fairness.svg from it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness import FOLDER, OURS, PACKETS, TENANT, Worker, clear, environment, servers
from picture import Curve, curves

from cgk_tasks import SendItem, send_job, send_jobs
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import add_tenant

QUIET = "quiet"
FLOOD = 2_000
RUN_SECONDS = 0.01
_EVERY_SECONDS = 0.25
_EVENT = "bench.nap"
IMAGE = FOLDER.parent / "docs" / "images" / "fairness.svg"

WAITED = """
SELECT extract(epoch FROM r.created_at - f.first)::float8, extract(epoch FROM r.started_at - r.created_at)::float8
  FROM cgk.run_history r, (SELECT min(created_at) AS first FROM cgk.run_history WHERE tenant_id = %s) AS f
 WHERE r.tenant_id = %s ORDER BY r.created_at
"""


@dataclass(frozen=True)
class Measured:
    """points: when a run of the quiet tenant was sent, by seconds since the flood, and how long it waited."""

    points: Sequence[tuple[float, float]]
    flood_seconds: float

    @property
    def waits(self) -> list[float]:
        return sorted(wait for _, wait in self.points)


def measure(fair_queues: str) -> Measured:
    clear()
    with environment({"CGK_FAIR_QUEUES": fair_queues, PACKETS[0]: PACKETS[1]}), Worker(*OURS) as worker:
        current_runtime().drop(CROWDED)
        worker.wait(lambda: _counted("workers") > 0)
        begun = time.monotonic()
        send_jobs(SendItem(_EVENT, {"tenantId": TENANT, "seconds": RUN_SECONDS}) for _ in range(FLOOD))
        sent = 0
        flood_seconds = 0.0
        while not flood_seconds:
            send_job(_EVENT, {"tenantId": QUIET, "seconds": RUN_SECONDS})
            sent += 1
            time.sleep(_EVERY_SECONDS)
            if _closed(TENANT) == FLOOD:
                flood_seconds = time.monotonic() - begun
        worker.wait(lambda: _closed(QUIET) == sent)
    with autocommit() as connection:
        return Measured(connection.execute(WAITED, [TENANT, QUIET]).fetchall(), flood_seconds)


def _closed(tenant: str) -> int:
    with autocommit() as connection:
        counted = "SELECT count(*) FROM cgk.run_history WHERE tenant_id = %s"
        return int(connection.execute(counted, [tenant]).fetchone()[0])


def _counted(table: str) -> int:
    with autocommit() as connection:
        return int(connection.execute(f"SELECT count(*) FROM cgk.{table}").fetchone()[0])


def main() -> None:
    with servers():
        import jobs  # noqa: F401 - the event

        add_tenant(QUIET)
        measure("*")  # what a run takes is known from then on
        before, after = measure(""), measure("*")
    for name, measured in (("in the order of sending", before), ("by shares", after)):
        waits = measured.waits
        print(
            f"{name}: {len(waits)} runs of the quiet tenant waited {statistics.median(waits):.2f} s (median), "
            f"{waits[-1]:.2f} s (longest); the flood took {measured.flood_seconds:.1f} s"
        )
    about = (
        f"One tenant sends {FLOOD:,} runs of {1000 * RUN_SECONDS:g} ms at once, another one each quarter of a second"
    )
    lines = [
        Curve("by shares", after.points, "ours"),
        Curve("in the order of sending", before.points, "other"),
    ]
    picture = curves("How long runs of a quiet tenant wait beside a flood", about, "seconds since the flood", lines)
    IMAGE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
