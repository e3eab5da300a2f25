"""`session=` with a tenant's own session: it may not touch the schema cgk,
and sends in its transaction all the same.
"""

import pytest
from sqlalchemy import text

from cgk_tasks import get_job_status, send_job, tenant_context, tenant_session
from cgk_tasks.errors import IdempotencyConflictError, UnknownRunError
from cgk_tasks.events import OrderCancelled
from cgk_tasks.testing import run_job

pytestmark = pytest.mark.usefixtures("database")

FIRST, SECOND = (OrderCancelled(tenant_id="acme", order_id=order_id) for order_id in ("o-1", "o-2"))


@pytest.fixture
def session():
    with tenant_context("acme"), tenant_session() as session:
        yield session


def role(session):
    return session.execute(text("SELECT current_user")).scalar()


def test_the_run_exists_once_the_session_has_committed():
    with tenant_context("acme"), tenant_session() as session:
        run = send_job(FIRST, session=session)
        with pytest.raises(UnknownRunError):
            get_job_status(run.id)
    assert get_job_status(run.id).state == "pending"


def test_a_job_sends_in_the_transaction_of_its_own_completion():
    run_id = run_job(lambda ctx: send_job(SECOND, session=ctx.db).id, FIRST)
    assert get_job_status(run_id).state == "pending"


def test_nothing_was_sent_when_the_job_raises_afterwards():
    sent = []

    def send_and_fail(ctx):
        sent.append(send_job(SECOND, session=ctx.db).id)
        raise ValueError

    with pytest.raises(ValueError):
        run_job(send_and_fail, FIRST)
    with pytest.raises(UnknownRunError):
        get_job_status(sent[0])


def test_the_session_is_confined_to_its_tenant_again_after_a_send(session):
    before = role(session)
    send_job(FIRST, session=session)
    assert role(session) == before == "cgk_tenant_acme"


def test_a_session_keeps_the_path_that_it_had_chosen_itself(session):
    session.execute(text("SET LOCAL search_path TO tenant_acme, pg_catalog"))
    send_job(FIRST, session=session)
    assert session.execute(text("SHOW search_path")).scalar() == "tenant_acme, pg_catalog"


def test_the_session_is_confined_again_after_a_refused_send(session):
    send_job(FIRST, session=session, idempotency_key="refused")
    with pytest.raises(IdempotencyConflictError):
        send_job(SECOND, session=session, idempotency_key="refused")
    assert role(session) == "cgk_tenant_acme"
