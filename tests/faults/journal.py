"""What the jobs of the fault tests did, from the marks they left and the rows they wrote."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import psutil

from cgk_tasks import SendItem, SendOptions, send_jobs
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.conftest import TENANTS
from tests.faults.jobs import Work
from tests.support.waiting import wait_until


class Journal:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def send(self, count: int, *, seconds: float = 0.0, writes: bool = True, **options) -> list[str]:
        """Send runs of `fault.work`, spread over the tenants. Returns their ids."""
        items = [
            SendItem(self.work(number, seconds, writes), options=SendOptions(**options)) for number in range(count)
        ]
        return [handle.id for handle in send_jobs(items)]

    def work(self, number: int = 0, seconds: float = 0.0, writes: bool = True) -> Work:
        tenant = TENANTS[number % len(TENANTS)]
        return Work(tenant_id=tenant, journal=str(self.folder), number=number, seconds=seconds, writes=writes)

    def marks(self, run_id: str) -> list[str]:
        path = self.folder / run_id
        return path.read_text().splitlines() if path.exists() else []

    def starts(self, run_ids: Iterable[str]) -> Counter[str]:
        """How often each of the runs was started."""
        return Counter({run_id: _count(self.marks(run_id), "start") for run_id in run_ids})

    def ends(self, run_ids: Iterable[str]) -> Counter[str]:
        return Counter({run_id: _count(self.marks(run_id), "end") for run_id in run_ids})

    def at_work(self, run_ids: Iterable[str]) -> list[int]:
        """The processes that are in the middle of one of the runs."""
        open_ones = [marks for run_id in run_ids if (marks := self.marks(run_id)) and marks[-1].startswith("start")]
        return [pid for marks in open_ones if is_alive(pid := int(marks[-1].split()[1]))]

    def wait_at_work(self, run_ids: Collection[str], count: int = 1) -> list[int]:
        return wait_until(
            lambda: pids if len(pids := self.at_work(run_ids)) >= count else None, 20, f"{count} runs under way"
        )

    @property
    def overlaps(self) -> list[str]:
        """Runs that were executed twice at once."""
        return [path.name for path in self.folder.iterdir() if "overlap" in path.read_text()]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _count(marks: list[str], kind: str) -> int:
    return sum(mark.startswith(kind) for mark in marks)


def once(run_ids: Iterable[str]) -> Counter[str]:
    """Each of the runs once."""
    return Counter(dict.fromkeys(run_ids, 1))


def rows_written(run_ids: Collection[str]) -> Counter[str]:
    """How many rows each of the runs has in its tenant's orders."""
    tables = " UNION ALL ".join(f"SELECT run_id FROM tenant_{tenant}.orders" for tenant in TENANTS)
    statement = f"SELECT run_id, count(*) AS rows FROM ({tables}) AS o WHERE run_id = ANY(%(ids)s) GROUP BY run_id"
    with autocommit() as connection:
        return Counter({row["run_id"]: row["rows"] for row in fetch(connection, statement, {"ids": list(run_ids)})})


def states(run_ids: Collection[str]) -> Counter[str]:
    """How many of the runs are in which state."""
    statement = """
        SELECT state, count(*) AS runs FROM (
            SELECT state FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[])
            UNION ALL SELECT state FROM cgk.run_history WHERE id = ANY(%(ids)s::uuid[])
        ) AS run GROUP BY state
    """
    with autocommit() as connection:
        return Counter({row["state"]: row["runs"] for row in fetch(connection, statement, {"ids": list(run_ids)})})


def wait_completed(run_ids: Collection[str], timeout: float = 30.0) -> None:
    """Until every one of the runs is completed."""
    wanted = {"completed": len(run_ids)}
    give_up = f"{len(run_ids)} runs completed"
    try:
        wait_until(lambda: states(run_ids) == wanted, timeout, give_up)
    except AssertionError as error:
        raise AssertionError(f"{error}; they are {dict(states(run_ids))}") from None
