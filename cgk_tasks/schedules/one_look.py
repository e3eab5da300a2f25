"""What beat does at one look, for whoever calls: a clock outside, over HTTP, where no beat runs.

Each tick is made once, whoever makes it: its row is inserted once. So two calls at a time, a call that comes again, and
a beat beside do no harm.
"""

from __future__ import annotations

import psycopg

from cgk_tasks.errors import StoreError
from cgk_tasks.extras import require_extra
from cgk_tasks.schedules.fan_out import Tick
from cgk_tasks.schedules.lookup import all_schedules
from cgk_tasks.sql.postgres import explain


def check() -> None:
    """Raises ConfigurationError where this cannot be done here: it takes the extra beat, as beat does."""
    require_extra("beat", "A tick over HTTP")


def look() -> list[Tick]:
    """Make every tick that is due, of SCHEDULES and of tenants. Returns those of SCHEDULES that were made now.

    What an operator changed counts, as in beat, and so do the misfire policies: what is older than a minute was missed.
    Raises StoreError, also where a schedule could not tick; the others have.
    """
    check()
    from cgk_tasks.schedules.django_setup import set_up_django

    set_up_django()
    from django.db import Error as DjangoError
    from django.db import close_old_connections

    from cgk_tasks.schedules.engine import Engine

    engine = Engine(all_schedules())
    close_old_connections()  # one that broke since the last call
    try:
        engine.reload()
        engine.tick()
    except DjangoError as exc:
        cause = exc.__cause__
        raise explain(cause if isinstance(cause, psycopg.Error) else exc) from exc
    finally:
        close_old_connections()
    if engine.has_failed:
        raise StoreError("A schedule could not tick.", hint="The log says which. Call again.")
    return engine.made
