"""What goes on while a dump, a report, a vacuum or the building of an index is under way."""

import threading
import uuid

import pytest

from cgk_tasks import cancel_run, create_schedule, send_job, send_jobs
from cgk_tasks.cli.doctor import database
from cgk_tasks.config import get_settings
from cgk_tasks.migrations import migrate
from cgk_tasks.schedules.tenant_ticks import fire_tenant_schedules
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import add_tenant, resume_tenant, suspend_tenant
from tests.support import tenant_setup
from tests.support.jobs import Behave
from tests.support.open_transactions import done_meanwhile, open_transaction
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.slow

# What is kept by days has partitions made and dropped by the leader, which has tests of its own.
LOCK_ALL = """
DO $$ DECLARE one regclass; BEGIN
    FOR one IN SELECT oid FROM pg_class
                WHERE relnamespace = 'cgk'::regnamespace AND relkind = 'r' AND NOT relispartition
    LOOP EXECUTE format('LOCK TABLE %s IN {mode} MODE', one); END LOOP;
END $$
"""


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.support.jobs"])


@pytest.fixture(params=["ACCESS SHARE", "SHARE UPDATE EXCLUSIVE"], ids=["a reader", "a vacuum"])
def beside(request, database):
    with open_transaction(LOCK_ALL.replace("{mode}", request.param)):
        yield


def behave(action="echo", argument="", tenant="acme"):
    return Behave(tenant_id=tenant, action=action, argument=argument)


def test_runs_are_sent_executed_tried_again_and_cancelled(worker, beside, tmp_path):
    stop = tmp_path / "stop"
    sent = done_meanwhile(
        send_jobs, [behave(), behave("fail_then_succeed", "1"), behave("kill_self_once", str(tmp_path / "x"))]
    )
    due = done_meanwhile(send_job, behave(), delay=0.2)
    waits = send_job(behave("wait_for_file", str(stop)), idempotency_key=str(stop))
    assert {wait_closed(run.id).state for run in [*sent, due]} == {"completed"}
    wait_state(waits.id, "running")
    done_meanwhile(cancel_run, waits.id)
    assert wait_closed(waits.id).state == "cancelled"


def test_tenants_are_added_suspended_and_resumed(beside):
    added = done_meanwhile(add_tenant, f"t-{uuid.uuid4().hex[:8]}").id
    done_meanwhile(suspend_tenant, added)
    done_meanwhile(resume_tenant, added)


def test_other_tenants_are_added_and_suspended_while_the_set_up_of_one_takes_long(database, setting):
    setting(CGK_TENANT_SETUP="tests.support.tenant_setup:take_long_for_some")
    tenant_setup.go_on.clear()
    slow = threading.Thread(target=add_tenant, args=["slow-one"])
    slow.start()
    try:
        wait_until(lambda: _is_open("INSERT INTO cgk.tenants") or _is_open("CREATE TABLE"))
        added = done_meanwhile(add_tenant, f"t-{uuid.uuid4().hex[:8]}").id
        assert done_meanwhile(suspend_tenant, added).status == "suspended"
        again = threading.Thread(target=add_tenant, args=["slow-one"])
        again.start()
        wait_until(lambda: _rows("SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"))
    finally:
        tenant_setup.go_on.set()
        slow.join()
    again.join()
    assert len(_rows("SELECT FROM cgk.tenants WHERE id = 'slow-one'")) == 1
    assert not _rows("SELECT FROM cgk.leases WHERE name ~ '^tenants in schema'")


def _is_open(statement):
    """Whether a transaction is open whose last statement begins so."""
    return _rows(
        "SELECT FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE %s", [statement + "%"]
    )


def _rows(statement, values=()):
    with autocommit() as connection:
        return connection.execute(statement, values).fetchall()


def test_schedules_tick(worker, beside):
    schedule = done_meanwhile(create_schedule, "acme", "test.behave", "every 1m", payload={"action": "echo"})
    assert done_meanwhile(fire_tenant_schedules, schedule.next_at) >= 1


def test_migrating_what_is_migrated_and_the_doctor_do_not_wait(beside):
    before = done_meanwhile(migrate)
    assert done_meanwhile(migrate) == before
    assert done_meanwhile(database.check, get_settings())[0].level == "OK"
