"""The crash of a proof, which is an exception, leaves in PostgreSQL what a process leaves there that is killed."""

import os
import signal

import pytest

from cgk_tasks import signal_run
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import add_tenant
from cgk_tasks.testing.crash_points import CrashPoints
from cgk_tasks.testing.executions import UNDISTURBED, Disturbance, Execution
from tests.conftest import ORDERS
from tests.integration.proven_jobs import ProvenOrder

LEFT = """
SELECT 'run' AS kind, event AS name, state, attempt::text AS more, (worker_id IS NOT NULL)::text AS held
  FROM cgk.runs WHERE tenant_id = %(tenant)s
UNION ALL
SELECT 'closed', event, state, attempt::text, error_code FROM cgk.run_history WHERE tenant_id = %(tenant)s
UNION ALL
SELECT 'step', name, state, nth::text, kind FROM cgk.steps WHERE tenant_id = %(tenant)s
UNION ALL
SELECT 'mail', regexp_replace(name, '[0-9a-f-]{36}', 'id'), key, (taken_at IS NULL)::text, NULL
  FROM cgk.mail WHERE tenant_id = %(tenant)s
 ORDER BY 1, 2, 3, 4, 5
"""


def tables(tenant, connection):
    """CGK_TENANT_SETUP of these tests."""
    connection.execute(ORDERS.format(schema=f'"{tenant.schema_name}"'))


@pytest.fixture(autouse=True)
def shop(database, setting):
    setting(CGK_TENANT_SETUP="tests.integration.test_crashes_of_proofs:tables")


def left_by(tenant):
    """What the record and the tenant's table have of it."""
    with autocommit() as connection:
        rows = fetch(connection, LEFT, {"tenant": tenant.id})
        orders = fetch(connection, f'SELECT note FROM "{tenant.schema_name}".orders ORDER BY note')
    return [tuple(row.values()) for row in rows], [row["note"] for row in orders]


class Seen(Execution):
    """Looks at what is left before it goes on."""

    left = None

    def _reclaim(self):
        self.left = left_by(self.tenant)
        super()._reclaim()


def execution(job, die_at=None):
    tenant = add_tenant(f"crash-{os.urandom(4).hex()}")
    disturbance = UNDISTURBED if die_at is None else Disturbance(die_at=die_at)
    order = ProvenOrder(tenant_id=tenant.id, order_id="o-1")
    meanwhile = (lambda run_id: signal_run(run_id, "approve", {"by": "ada"})) if job == "proven.journey" else None
    return Seen(job, order, tenant, disturbance, meanwhile)


def in_one_order(points):
    """Numbers and names of points, without those of steps in threads, which come in any order."""
    parallel = [number for number, point in enumerate(points) if "both." in point]
    first, last = (parallel[0], parallel[-1] + 1) if parallel else (len(points), -1)  # a commit follows
    return [(number, point) for number, point in enumerate(points) if not first <= number <= last]


def killed(job, number, monkeypatch):
    """The same in a process that is killed at the point, and what it leaves."""
    made = execution(job, number)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(
            CrashPoints, "check_alive", lambda self: self.is_dead and os.kill(os.getpid(), signal.SIGKILL)
        )
        try:
            made.go()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return left_by(made.tenant)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", ["proven.recorded", pytest.param("proven.journey", marks=pytest.mark.slow)])
def test_a_crash_leaves_what_a_kill_leaves(job, monkeypatch):
    usual = execution(job)
    usual.go()
    differing, kinds = {}, set()
    for number, point in in_one_order(usual.passed):
        crashed = execution(job, number)
        crashed.go()
        expected = killed(job, number, monkeypatch)
        if crashed.left != expected:
            differing[point] = crashed.left, expected
        kinds.add(str(expected))
    assert differing == {}
    assert len(kinds) >= 3
