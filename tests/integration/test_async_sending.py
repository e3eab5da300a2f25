"""Sends of asyncio applications: what goes together, and what becomes of it when something is cancelled or lost."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cgk_tasks import (
    SendItem,
    SendOptions,
    aget_run,
    asend_job,
    asend_jobs,
    create_job_client,
    get_job_client,
    get_run,
    send_job,
    tenant_context,
)
from cgk_tasks.admission.set_rules import SET_RULES
from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    PayloadInvalidError,
    StoreError,
    TenantContextError,
    UnknownRunError,
    UnknownTenantError,
)
from cgk_tasks.flow import together
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.sql import door
from cgk_tasks.sql.pool import Pool
from cgk_tasks.sql.postgres import POOL, autocommit, close_pools, open_connections
from cgk_tasks.tenancy import registry
from tests.conftest import copied_database
from tests.support.waiting import Patience, wait_until
from tests.support.workers import ROOT

pytestmark = pytest.mark.usefixtures("database")
INSERTS = {
    "insert_run",
    "insert_plain",
    "insert_runs",
    "insert_in_lane",
    "insert_in_lanes",
    "insert_and_tell",
    "copy_runs",
}


def order(number=1, tenant="acme"):
    return {"tenantId": tenant, "orderId": f"o-{number}", "totalAmount": 59.97}


async def send(number=1, **options):
    return await asend_job("order.created", order(number), **options)


async def send_many(count):
    return await asyncio.gather(*(send(number) for number in range(count)))


def on_record(ids):
    with autocommit() as connection:
        rows = connection.execute("SELECT id::text FROM cgk.runs WHERE id = ANY(%s::uuid[])", [list(ids)]).fetchall()
    return {row[0] for row in rows}


def dispatched(ids):
    with autocommit() as connection:
        rows = connection.execute(
            "SELECT id::text FROM cgk.runs WHERE id = ANY(%s::uuid[]) AND hand_overs > 0", [list(ids)]
        ).fetchall()
    return {row[0] for row in rows}


@pytest.fixture
def administrator():
    with psycopg.connect(get_settings().database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def statements():
    """The names of the statements that this process executes."""
    seen = []

    def observe(statement, _seconds, _error):
        seen.append(statement.name)

    door.observe(observe)
    yield seen
    door.forget_observer(observe)


@pytest.fixture
def refused_queue(administrator):
    """PostgreSQL takes no run of this queue."""
    administrator.execute("ALTER TABLE cgk.runs ADD CONSTRAINT refused CHECK (queue <> 'refused') NOT VALID")
    yield "refused"
    administrator.execute("ALTER TABLE cgk.runs DROP CONSTRAINT refused")


@pytest.fixture
def locked_runs(administrator):
    """`release()`: until it is called, nothing can be inserted."""
    with psycopg.connect(get_settings().database) as locking:
        locking.execute("LOCK TABLE cgk.runs IN EXCLUSIVE MODE")
        yield locking.rollback


def waiting_inserts(administrator):
    (count,) = administrator.execute(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'cgk.runs'::regclass"
    ).fetchone()
    return count


async def until(condition):
    """Wait for a condition while the loop goes on."""
    patience = Patience(30)
    while not condition():
        assert not patience.is_over()
        await asyncio.sleep(0.005)


# ---- what goes together ---------------------------------------------------------------------------------------------


def test_a_send_alone_is_one_insert(statements):
    async def run():
        await send()
        del statements[:]
        await send()

    asyncio.run(run())
    assert len([name for name in statements if name in INSERTS]) == 1


@pytest.mark.parametrize("count", [1, 10])
def test_what_is_sent_is_dispatched(count):
    def all_are():
        ids = {handle.id for handle in asyncio.run(send_many(count))}
        return dispatched(ids) == ids

    wait_until(all_are)  # on a busy machine a push may take longer than a sender waits for it


def test_a_thousand_sends_at_once_take_few_statements_and_at_most_four_connections(statements):
    async def run():
        return await send_many(1_000)

    close_pools()
    handles = asyncio.run(run())
    ids = {handle.id for handle in handles}
    assert (len(ids), on_record(ids)) == (1_000, ids)
    assert len([name for name in statements if name in INSERTS]) < 100
    assert open_connections() <= 4


def test_each_send_gets_the_handle_of_its_own_run():
    async def run():
        return [handle.id for handle in await send_many(50)]

    ids = asyncio.run(run())
    assert [get_run(run_id).payload["orderId"] for run_id in ids] == [f"o-{number}" for number in range(50)]


def test_a_send_that_postgresql_refuses_fails_alone(refused_queue):
    async def run():
        await send()
        sends = [send(n, queue=refused_queue) if n == 7 else send(n, queue="taken") for n in range(20)]
        return await asyncio.gather(*sends, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert [n for n, one in enumerate(outcomes) if isinstance(one, StoreError)] == [7]
    ids = {one.id for n, one in enumerate(outcomes) if n != 7}
    assert on_record(ids) == ids


def test_a_few_sends_together_are_all_or_nothing(refused_queue):
    async def run():
        with pytest.raises(StoreError):
            await asend_jobs(
                [
                    SendItem("order.created", order(1), SendOptions(queue="all-or-nothing")),
                    SendItem("order.created", order(2), SendOptions(queue=refused_queue)),
                ]
            )

    asyncio.run(run())
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM cgk.runs WHERE queue = 'all-or-nothing'").fetchone() == (0,)


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 100])
def test_any_number_of_sends_together_keeps_its_order(count):
    async def run():
        return await asend_jobs(SendItem("order.created", order(number)) for number in range(count))

    handles = asyncio.run(run())
    assert [get_run(handle.id).payload["orderId"] for handle in handles] == [f"o-{n}" for n in range(count)]


# ---- the same checks and errors as without asyncio ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"tenantId": "acme"}, PayloadInvalidError),
        (order(tenant="nobody"), UnknownTenantError),
    ],
)
def test_a_wrong_send_says_what_send_job_says(payload, error):
    with pytest.raises(error) as sync:
        send_job("order.created", payload)
    with pytest.raises(error) as native:
        asyncio.run(asend_job("order.created", payload))
    assert str(native.value) == str(sync.value)


def test_each_send_is_of_the_tenant_of_its_own_context():
    async def of(tenant, payload_tenant):
        with tenant_context(tenant):
            return await asend_job("order.created", order(tenant=payload_tenant))

    async def run():
        await send()
        return await asyncio.gather(
            of("acme", "acme"), of("globex", "globex"), of("acme", "globex"), return_exceptions=True
        )

    first, second, wrong = asyncio.run(run())
    assert [get_run(one.id).tenant_id for one in (first, second)] == ["acme", "globex"]
    assert isinstance(wrong, TenantContextError)


def test_a_key_makes_one_run_of_sends_at_once():
    async def run():
        return await asyncio.gather(*(send(idempotency_key=f"async-{os.getpid()}") for _ in range(10)))

    handles = asyncio.run(run())
    assert len({handle.id for handle in handles}) == 1
    assert sum(handle.outcome == "accepted" for handle in handles) == 1


def test_a_delayed_send_waits_on_record():
    handle = asyncio.run(send(delay=3600))
    status = get_run(handle.id)
    assert status.state == "scheduled"
    assert 3500 < (status.run_at - status.created_at).total_seconds() < 3700


def test_aget_run_gives_what_get_run_gives():
    handle = send_job("order.created", order())
    assert asyncio.run(aget_run(handle.id)) == get_run(handle.id)


def test_aget_run_of_another_tenants_run_or_of_none_is_unknown():
    handle = send_job("order.created", order())

    async def run(run_id):
        with tenant_context("globex"), pytest.raises(UnknownRunError):
            await aget_run(run_id)

    for run_id in (handle.id, "00000000-0000-7000-8000-000000000000", "no-id"):
        asyncio.run(run(run_id))


# ---- the event loop -------------------------------------------------------------------------------------------------


def test_the_loop_asks_postgresql_nothing_itself(monkeypatch):
    """Nor is it asked there what tenants and jobs there are."""
    loops, taken = [], []
    take = Pool.take

    def noting(self):
        taken.append(threading.get_ident())
        return take(self)

    monkeypatch.setattr("cgk_tasks.sql.pool.Pool.take", noting)

    async def run():
        loops.append(threading.get_ident())
        for round_ in range(3):
            registry.forget_known()
            SET_RULES.current().look_at = 0.0
            AWAITED.current()._ask_at = 0.0
            ROUTES.current()._ask_at = 0.0
            await asyncio.gather(*(send(number, delay=60 if round_ else None) for number in range(40)))

    asyncio.run(run())
    assert taken
    assert loops[0] not in taken


def test_the_loop_goes_on_while_postgresql_does_not_answer(locked_runs, administrator):
    async def run():
        sending = asyncio.create_task(send())
        await until(lambda: waiting_inserts(administrator) == 1)
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not sending.done()
        locked_runs()
        return await sending

    handle = asyncio.run(run())
    assert on_record([handle.id]) == {handle.id}


def test_a_sender_cancelled_amid_its_insert_leaves_a_whole_run_and_a_clean_connection(locked_runs, administrator):
    async def run():
        sending = asyncio.create_task(send(queue="cancelled-amid"))
        await until(lambda: waiting_inserts(administrator) == 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        locked_runs()
        await until(lambda: len(of_queue("cancelled-amid")) == 1)
        return await send()

    handle = asyncio.run(run())
    assert on_record([handle.id]) == {handle.id}


def of_queue(queue):
    with autocommit() as connection:
        rows = connection.execute("SELECT id::text FROM cgk.runs WHERE queue = %s", [queue])
        return [row[0] for row in rows.fetchall()]


def test_a_sender_cancelled_before_its_turn_has_sent_nothing(locked_runs, administrator):
    async def run():
        others = []
        for busy in range(1, together._AT_ONCE + 1):
            others.append(asyncio.create_task(send()))
            await until(lambda busy=busy: waiting_inserts(administrator) == busy)
        late = asyncio.create_task(send(queue="cancelled-before"))
        others.append(asyncio.create_task(send(queue="kept")))
        await until(lambda: len(waiting_sends()) == 2)
        late.cancel()
        locked_runs()
        await asyncio.gather(*others)

    asyncio.run(run())
    assert (len(of_queue("kept")), of_queue("cancelled-before")) == (1, [])


def waiting_sends():
    return together.loop_sends()._waiting


def test_cancelled_at_any_moment_runs_are_whole_and_the_others_get_theirs():
    async def run():
        await send()
        for _ in range(20):
            tasks = [asyncio.create_task(send(n, queue="any-moment")) for n in range(10)]
            for moment, task in enumerate(tasks):
                if moment % 2:
                    task.cancel()
                await asyncio.sleep(0.0005 * (moment % 3))
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            kept.update(one.id for one in outcomes if not isinstance(one, BaseException))
        await send()

    kept: set[str] = set()
    asyncio.run(run())
    assert len(kept) >= 100
    assert kept <= set(of_queue("any-moment"))


def test_where_no_thread_can_be_had_each_send_fails_and_those_after_it_work():
    ended = ThreadPoolExecutor()
    ended.shutdown()

    async def run():
        loop = asyncio.get_running_loop()
        await send()
        loop.set_default_executor(ended)
        outcomes = await asyncio.wait_for(asyncio.gather(*map(send, range(5)), return_exceptions=True), 60)
        loop.set_default_executor(ThreadPoolExecutor())
        return outcomes, await asyncio.wait_for(send(), 60)

    outcomes, handle = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [RuntimeError] * 5
    assert on_record([handle.id]) == {handle.id}


# ---- several loops --------------------------------------------------------------------------------------------------


def test_one_loop_after_another_sends():
    handles = [asyncio.run(send(number)) for number in range(3)]
    ids = {handle.id for handle in handles}
    assert on_record(ids) == ids


def test_a_loop_that_is_gone_keeps_nothing():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(send())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_loops_in_several_threads_send_at_the_same_time():
    sent, both = [], threading.Barrier(4)

    def work():
        both.wait()
        sent.extend(handle.id for handle in asyncio.run(send_many(50)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(set(sent)), on_record(sent)) == (200, set(sent))


def test_a_client_with_servers_of_its_own_sends_to_its_own_database(services, template):
    there = create_job_client(
        "celery", database_url=copied_database(services, template), broker_url=get_settings().broker
    )

    async def run():
        here = get_job_client()
        return await asyncio.gather(*(client.asend("order.created", order()) for client in (here, there) * 10))

    try:
        handles = asyncio.run(run())
        status = there.get_run_status(handles[1].id)
    finally:
        there.close()
    ours, theirs = {one.id for one in handles[::2]}, {one.id for one in handles[1::2]}
    assert (on_record(ours), on_record(theirs), status.id) == (ours, set(), handles[1].id)


# ---- PostgreSQL goes away -------------------------------------------------------------------------------------------


def test_sends_work_again_after_postgresql_has_closed_the_connections(administrator):
    async def run():
        await send_many(10)
        for backend in POOL.current().backends:
            administrator.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])
        return await send()

    handle = asyncio.run(run())
    assert on_record([handle.id]) == {handle.id}


def test_a_connection_lost_amid_the_insert_is_a_store_error_and_the_next_send_works(locked_runs, administrator):
    async def run():
        sending = asyncio.create_task(send())
        await until(lambda: waiting_inserts(administrator) == 1)
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = 'cgk.runs'::regclass"
        )
        with pytest.raises(StoreError):
            await sending
        locked_runs()
        return await send()

    handle = asyncio.run(run())
    assert on_record([handle.id]) == {handle.id}


def test_a_database_that_is_not_there_is_a_store_error(setting):
    asyncio.run(send())
    setting(CGK_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    async def run():
        outcomes = await asyncio.gather(*(send(n) for n in range(20)), return_exceptions=True)
        with pytest.raises(StoreError):
            await aget_run("00000000-0000-7000-8000-000000000000")
        return outcomes

    assert {type(one) for one in asyncio.run(run())} == {StoreError}


def test_pools_can_be_closed_while_a_loop_sends():
    async def run():
        for _ in range(5):
            sending = asyncio.gather(*(send(n) for n in range(20)))
            await asyncio.sleep(0.001)
            close_pools()
            await sending

    asyncio.run(run())


# ---- processes ------------------------------------------------------------------------------------------------------

FORKING = """
import asyncio, os, sys
from cgk_tasks import asend_job, get_run

async def send():
    sent = [asend_job("order.created", {"tenantId": "acme", "orderId": str(n), "totalAmount": 1}) for n in range(20)]
    return [handle.id for handle in await asyncio.gather(*sent)]

async def send_and_fork():
    mine = await send()
    child = os.fork()
    if child == 0:
        os._exit(in_child())
    _, status = os.waitpid(child, 0)
    return mine + await send(), os.waitstatus_to_exitcode(status)

def in_child():
    import threading
    sent = []
    thread = threading.Thread(target=lambda: sent.extend(asyncio.run(send())))  # in this one the parent's loop runs
    thread.start()
    thread.join()
    return 0 if len(sent) == 20 and all(get_run(one) for one in sent) else 1

ids, status = asyncio.run(send_and_fork())
assert all(get_run(one) for one in ids)
sys.exit(status)
"""


def script(text, **options):
    return subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, **options
    )


def test_a_forked_child_has_connections_of_its_own():
    process = script(FORKING, stderr=subprocess.PIPE)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint


SENDING = """
import asyncio
from cgk_tasks import asend_job

async def send_on(sender):
    while True:
        handle = await asend_job("order.created", {"tenantId": "acme", "orderId": str(sender), "totalAmount": 1})
        print(handle.id, flush=True)

async def main():
    await asyncio.gather(*(send_on(sender) for sender in range(20)))

asyncio.run(main())
"""


def test_a_killed_process_loses_nothing_that_it_was_told_was_accepted():
    process = script(SENDING, stdout=subprocess.PIPE)
    told = [process.stdout.readline().strip() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    told += [line.strip() for line in process.communicate(timeout=60)[0].splitlines() if len(line) == 36]
    assert on_record(told) == set(told)
