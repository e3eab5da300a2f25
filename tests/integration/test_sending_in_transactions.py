"""`session=`: a run belongs to the caller's transaction, and is dispatched when that has committed."""

import asyncio
import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from cgk_tasks import SendItem, asend_job, get_job_status, send_job, send_jobs
from cgk_tasks.broker.envelope import NOTHING_WAITS
from cgk_tasks.broker.publisher import get_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.errors import IdempotencyConflictError, UnknownRunError
from cgk_tasks.runs.models import DEFAULT_PRIORITY
from cgk_tasks.sql.sqlalchemy_engine import engine, sqlalchemy_url
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("database")

ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}


@pytest.fixture
def queue():
    """A queue of the test's own, to which no worker listens."""
    return f"q-{uuid.uuid4()}"


def is_published(queue):
    return get_publisher().oldest_waiting(queue, DEFAULT_PRIORITY) is not NOTHING_WAITS


def is_on_record(handle):
    try:
        return bool(get_job_status(handle.id))
    except UnknownRunError:
        return False


def test_a_run_is_neither_on_record_nor_handed_over_before_the_commit_and_both_after_it(queue):
    with Session(engine()) as session:
        handle = send_job("order.created", ORDER, session=session, queue=queue)
        before = is_on_record(handle), is_published(queue)
        session.commit()
    assert (before, is_on_record(handle), is_published(queue)) == ((False, False), True, True)


def test_a_rollback_leaves_nothing(queue):
    with Session(engine()) as session:
        handle = send_job("order.created", ORDER, session=session, queue=queue)
        session.rollback()
        session.execute(sa.text("SELECT 1"))
        session.commit()
    assert (is_on_record(handle), is_published(queue)) == (False, False)


def test_an_exception_in_the_callers_block_leaves_nothing(queue):
    sent = []

    def place_order_and_fail(session):
        sent.append(send_job("order.created", ORDER, session=session, queue=queue))
        raise RuntimeError

    with pytest.raises(RuntimeError), Session(engine()) as session, session.begin():
        place_order_and_fail(session)
    assert (is_on_record(sent[0]), is_published(queue)) == (False, False)


def test_a_session_that_is_closed_without_a_commit_leaves_nothing(queue):
    with Session(engine()) as session:
        handle = send_job("order.created", ORDER, session=session, queue=queue)
    assert (is_on_record(handle), is_published(queue)) == (False, False)


def test_a_session_can_send_again_after_a_rollback(queue):
    with Session(engine()) as session:
        lost = send_job("order.created", ORDER, session=session, queue=queue)
        session.rollback()
        kept = send_job("order.created", ORDER, session=session, queue=queue)
        session.commit()
    assert [is_on_record(handle) for handle in (lost, kept)] == [False, True]


def test_a_savepoint_that_is_rolled_back_takes_its_runs_with_it_and_no_others(queue):
    other = f"{queue}-savepoint"
    with Session(engine()) as session:
        kept = send_job("order.created", ORDER, session=session, queue=queue)
        savepoint = session.begin_nested()
        lost = send_job("order.created", ORDER, session=session, queue=other)
        savepoint.rollback()
        session.commit()
    assert [is_on_record(kept), is_published(queue)] == [True, True]
    assert [is_on_record(lost), is_published(other)] == [False, False]


def test_a_released_savepoint_inside_one_that_is_rolled_back_is_gone_too(queue):
    with Session(engine()) as session:
        outer = session.begin_nested()
        with session.begin_nested():
            handle = send_job("order.created", ORDER, session=session, queue=queue)
        outer.rollback()
        session.commit()
    assert (is_on_record(handle), is_published(queue)) == (False, False)


def test_a_savepoint_that_is_released_publishes_only_with_the_outer_commit(queue):
    with Session(engine()) as session:
        with session.begin_nested():
            handle = send_job("order.created", ORDER, session=session, queue=queue)
        before = is_published(queue)
        session.commit()
    assert (before, is_published(queue), is_on_record(handle)) == (False, True, True)


def test_a_batch_joins_the_callers_transaction(queue):
    items = [SendItem("order.created", ORDER | {"orderId": f"o-{n}"}) for n in range(3)]
    with Session(engine()) as session:
        handles = send_jobs(items, session=session)
        before = [is_on_record(handle) for handle in handles]
        session.commit()
    assert (before, [is_on_record(handle) for handle in handles]) == ([False] * 3, [True] * 3)


def test_a_key_that_was_reserved_in_a_rolled_back_transaction_is_free_again():
    with Session(engine()) as session:
        send_job("order.created", ORDER, session=session, idempotency_key="rolled-back")
        session.rollback()
    assert not send_job("order.created", ORDER, idempotency_key="rolled-back").deduplicated


def test_a_conflicting_key_is_the_callers_to_handle():
    send_job("order.created", ORDER, idempotency_key="conflict")
    with Session(engine()) as session:
        with pytest.raises(IdempotencyConflictError):
            send_job("order.created", ORDER | {"totalAmount": 1}, session=session, idempotency_key="conflict")
        session.rollback()


def test_an_async_session_publishes_after_its_commit(queue):
    async def run():
        async_engine = create_async_engine(sqlalchemy_url(get_settings().database))
        async with AsyncSession(async_engine) as session:
            handle = await asend_job("order.created", ORDER, session=session, queue=queue)
            before = await asyncio.to_thread(is_published, queue)
            await session.commit()
        await async_engine.dispose()
        return handle, before

    handle, before = asyncio.run(run())
    assert (is_on_record(handle), before) == (True, False)
    assert wait_until(lambda: is_published(queue))


def test_an_async_session_that_is_rolled_back_leaves_nothing(queue):
    async def run():
        async_engine = create_async_engine(sqlalchemy_url(get_settings().database))
        async with AsyncSession(async_engine) as session:
            handle = await asend_job("order.created", ORDER, session=session, queue=queue)
            await session.rollback()
        await async_engine.dispose()
        return handle

    assert (is_on_record(asyncio.run(run())), is_published(queue)) == (False, False)
