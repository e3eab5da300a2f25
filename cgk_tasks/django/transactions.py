"""Sending in the transaction of Django that is open here, or after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections, transaction

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.flow.accept import accept, unit_of_work
from cgk_tasks.flow.quota import counted
from cgk_tasks.runs.models import NewRun
from cgk_tasks.runtime import Part
from cgk_tasks.sql import postgres


@contextmanager
def sends_in_transaction(using: str = "default") -> Iterator[None]:
    """What is sent in the block becomes a part of the transaction of Django that is open here.

        with transaction.atomic(), sends_in_transaction():
            order = Order.objects.create(...)
            send_job("order.created", {"tenantId": "acme", "orderId": str(order.pk), "totalAmount": 59.97})

    It is sent with the commit, and was never there if there is none. using: the alias of the database, which must be
    that of CGK_DATABASE_URL. Raises ConfigurationError where it is another one, where the project has USE_TZ = False,
    or where no transaction is open. After a StoreError the transaction can only be rolled back.
    """
    django: Any = connections[using]
    if not django.in_atomic_block:
        raise ConfigurationError(
            "sends_in_transaction() was called where no transaction of Django is open.",
            hint="Write: with transaction.atomic(), sends_in_transaction(): ...",
        )
    own = _ours(django)
    if own is None:
        raise ConfigurationError(
            f"The database {using!r} of Django is not that of CGK_DATABASE_URL, or has another login, or the project "
            "has USE_TZ = False, so its transactions cannot have runs.",
            hint="Send in transaction.on_commit(...).",
        )
    with _joined(django, own, using):
        yield


@contextmanager
def _joined(django: Any, own: postgres.Connection, using: str) -> Iterator[None]:
    try:
        with unit_of_work(own, of_application=True) as unit:
            yield
    except psycopg.Error as exc:
        django.set_rollback(True)  # PostgreSQL takes nothing more in it, and a commit would silently be none
        raise postgres.explain(exc) from exc
    finally:
        if not django.needs_rollback:
            transaction.on_commit(unit.publish, using=using)


def send(run: NewRun, database: str, sent: Callable[[], object]) -> None:
    """Send the run, and call `sent`. In a transaction of Django on the database of CGK_DATABASE_URL, the run is a part
    of that; in one on another database it is sent after the commit; and where no transaction is open, at once.

    Raises StoreError, QueueFullError, QuotaExceededError. After a StoreError the transaction can only be rolled back.
    """
    django: Any = connections[database] if database in connections.settings else None
    if django is None or not django.in_atomic_block:
        _send_and_tell(run, sent)
        return
    own = _ours(django)
    if own is None:
        transaction.on_commit(partial(_send_and_tell, run, sent), using=database)
        return
    with _joined(django, own, database):
        _accept(run)
    sent()


def _accept(run: NewRun) -> None:
    with counted([run]) as sends:
        sends.made([run], accept([run]))


def _send_and_tell(run: NewRun, sent: Callable[[], object]) -> None:
    _accept(run)
    sent()


def _ours(django: Any) -> postgres.Connection | None:
    """The driver's connection under one of Django's, if it leads where CGK_DATABASE_URL does, as the same login."""
    own = django.connection
    if not settings.USE_TZ:  # then it reads times without zones, which are none that a statement of ours could write
        return None
    if not isinstance(own, psycopg.Connection) or _place(own) != _PLACE.current():
        return None
    return own


def _place(connection: postgres.Connection) -> tuple[object, ...]:
    info = connection.info
    return info.host, info.port, info.dbname, info.user


def _place_of_ours() -> tuple[object, ...]:
    try:
        with postgres.autocommit() as connection:
            return _place(connection)
    except psycopg.Error as exc:
        raise postgres.explain(exc) from exc


_PLACE = Part(_place_of_ours)
