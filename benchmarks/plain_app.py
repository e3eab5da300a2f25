"""Plain Celery on the same Redis: its defaults, JSON, prefork; results off, or in Redis for `with_results`."""

from __future__ import annotations

import os
import time
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from celery import Celery
from shared import MARKS, PLAIN_QUEUE, PLAIN_WITH_RESULTS_QUEUE, REDIS_URL, client, import_what_jobs_need

if TYPE_CHECKING:
    from sqlalchemy import TextClause
    from sqlalchemy.orm import Session, sessionmaker

broker = client()


def make_app(queue: str, backend: str | None = None, broker_url: str | None = None) -> Celery:
    made = Celery(queue, broker=broker_url or os.environ[REDIS_URL], backend=backend, set_as_current=False)
    made.conf.update(
        task_default_queue=queue,
        task_ignore_result=backend is None,
        broker_connection_retry_on_startup=True,
    )
    made.task(name="do_nothing")(do_nothing)
    made.task(name="write_row")(write_row)
    made.task(name="mark_start")(mark_start)
    return made


@cache
def sessions() -> sessionmaker[Session]:
    """One pooled engine a child, made at first use, after the fork. The idle worker does not load SQLAlchemy."""
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    url = os.environ["CGK_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1)
    return sessionmaker(create_engine(url))


@cache
def insert() -> TextClause:
    from sqlalchemy import text

    return text("INSERT INTO public.rows (order_id, amount) VALUES (:order_id, :amount)")


def do_nothing(tenant_id: str, order_id: str, total_amount: float) -> None:
    pass


def write_row(tenant_id: str, order_id: str, amount: float) -> None:
    with sessions()() as session:
        session.execute(insert(), {"order_id": order_id, "amount": Decimal(str(amount))})
        session.commit()


def mark_start(tenant_id: str, since: float) -> None:
    broker.rpush(MARKS, time.time() - since)


import_what_jobs_need()
app = make_app(PLAIN_QUEUE)
with_results = make_app(PLAIN_WITH_RESULTS_QUEUE, os.environ[REDIS_URL])
