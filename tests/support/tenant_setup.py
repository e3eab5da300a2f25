"""Set-up hooks of an application, called for each tenant that is added."""

import threading


def make_widgets(tenant, connection):
    connection.execute("CREATE TABLE IF NOT EXISTS widgets (id serial PRIMARY KEY, name text)")


def fail(tenant, connection):
    connection.execute("CREATE TABLE widgets ()")
    _ = 1 / 0


def fail_for_some(tenant, connection):
    """Adds a column, but not to tenants whose id ends in `bad`."""
    connection.execute("ALTER TABLE widgets ADD COLUMN IF NOT EXISTS colour text")
    if tenant.id.endswith("bad"):
        raise ValueError("no colour for this one")


def note_overlap(tenant, connection):
    """Fails if it is under way for two tenants of one schema at once."""
    if not _schemas.setdefault(tenant.schema_name, threading.Lock()).acquire(blocking=False):
        raise AssertionError("two at once in one schema")
    try:
        connection.execute("SELECT pg_sleep(0.05)")
    finally:
        _schemas[tenant.schema_name].release()


_schemas: dict[str, threading.Lock] = {}


go_on = threading.Event()
"""What the set-up of a tenant waits for whose id begins with `slow`."""


def take_long_for_some(tenant, connection):
    connection.execute("CREATE TABLE IF NOT EXISTS widgets (id serial PRIMARY KEY, name text)")
    if tenant.id.startswith("slow"):
        assert go_on.wait(600)
