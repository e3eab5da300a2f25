"""`@app.task` calls in the caller's own transaction: with SQLAlchemy's session, or with Django's on_commit."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from cgk_tasks import get_settings, tenant_context
from cgk_tasks.errors import InvalidOptionError, TenantMissingError
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.integration import canvas_tasks as tasks


@pytest.fixture(autouse=True)
def acme(database):
    with tenant_context("acme"):
        yield


def address():
    return get_settings().database.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def session(database):
    engine = sa.create_engine(address())
    with Session(engine) as session:
        yield session
    engine.dispose()


def is_on_record(result):
    with autocommit() as connection:
        found = "SELECT 1 FROM cgk.runs WHERE id = %(id)s"
        return bool(fetch(connection, found, {"id": run_id_of(result.id)}))


def test_a_call_with_a_session_is_sent_when_it_commits(session):
    result = tasks.add.apply_async((1, 2), session=session)
    assert not is_on_record(result)
    session.commit()
    assert is_on_record(result)


def test_a_call_with_a_session_that_is_rolled_back_was_never_made(session):
    result = tasks.add.apply_async((1, 2), session=session)
    session.rollback()
    assert not is_on_record(result)


def test_an_async_session_takes_a_call_by_run_sync(database):
    async def send():
        engine = create_async_engine(address())
        async with AsyncSession(engine) as session:
            with pytest.raises(InvalidOptionError, match="run_sync"):
                tasks.add.apply_async((1, 2), session=session)
            result = await session.run_sync(lambda own: tasks.add.apply_async((1, 2), session=own))
            before = is_on_record(result)
            await session.commit()
        await engine.dispose()
        return before, is_on_record(result)

    assert asyncio.run(send()) == (False, True)


def test_a_call_that_leaves_no_record_refuses_a_session(session):
    with pytest.raises(InvalidOptionError, match="durable=False"):
        tasks.fleeting.apply_async((1,), session=session)


def test_the_tenant_of_a_call_on_commit_is_that_of_the_moment_of_the_call(django_tables):
    from django.db import transaction

    before = _runs("acme")
    with transaction.atomic():
        tasks.add.delay_on_commit(1, 2)
        assert _runs("acme") == before
    assert _runs("acme") == before + 1


def test_a_call_in_no_context_takes_the_tenant_of_its_arguments(database):
    from cgk_tasks import platform_context

    with platform_context():
        before = _runs("globex")
        tasks.with_tenant_argument.delay(tenant_id="globex")
        assert _runs("globex") == before + 1
        with pytest.raises(TenantMissingError):
            tasks.add.delay(1, 2)


def _runs(tenant_id):
    with autocommit() as connection:
        statement = "SELECT count(*) AS runs FROM cgk.runs WHERE tenant_id = %(id)s"
        return fetch(connection, statement, {"id": tenant_id})[0]["runs"]
