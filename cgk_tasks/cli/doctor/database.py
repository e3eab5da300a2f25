"""PostgreSQL: reachable, new enough, rights, migrations, clock, open transactions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from cgk_tasks import migrations
from cgk_tasks.cli.doctor import pooler
from cgk_tasks.cli.doctor.findings import Finding, fail, ok, warn
from cgk_tasks.config import Settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements

SQL = statements("doctor")

OLDEST_VERSION = 150_000
CLOCK_WARNS = timedelta(seconds=1)
CLOCK_FAILS = timedelta(seconds=5)
LONG_SECONDS = 60.0
"""A transaction that is open for longer is not one of cgk_tasks itself, unless a job works so long with ctx.db."""


def check(settings: Settings) -> list[Finding]:
    try:
        with autocommit() as connection:
            server = fetch(connection, SQL["server"])[0]
    except (psycopg.Error, ConfigurationError) as error:
        return [
            fail(
                "database",
                f"PostgreSQL cannot be reached: {_first_line(error)}",
                "Check CGK_DATABASE_URL, that the server runs, and that this machine may connect to it.",
            )
        ]
    return [
        version(server),
        rights(server, settings),
        _revision(),
        clock(),
        transactions(),
        *pooler.check(),
    ]


def _revision() -> Finding:
    try:
        return revision(migrations.current(), migrations.newest())
    except ConfigurationError as error:
        return warn("migrations", error.text, "Install it here, or run the doctor where cgk-tasks migrate runs.")


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def version(server: Row) -> Finding:
    found = f"PostgreSQL {server['version']}, database {server['database']}"
    if server["version_number"] < OLDEST_VERSION:
        return fail("database", found, "Use PostgreSQL 15 or newer.")
    return ok("database", found)


def rights(server: Row, settings: Settings) -> Finding:
    role, database = server["role"], server["database"]
    if not server["may_create_schemas"]:
        advice = f'GRANT CREATE ON DATABASE "{database}" TO "{role}";'
        if not server["has_schema"]:
            return fail("rights", f"{role} may not create schemas, so it cannot migrate.", advice)
        return warn("rights", f"{role} may not create schemas: it cannot add tenants.", advice)
    if settings.tenant_isolation != "search_path" and not server["may_create_roles"]:
        return warn(
            "rights",
            f"{role} may not create roles: it cannot add tenants with isolation {settings.tenant_isolation}.",
            f'ALTER ROLE "{role}" CREATEROLE; or set CGK_TENANT_ISOLATION=search_path, which is weaker.',
        )
    return ok("rights", f"{role} may create schemas and roles")


def revision(current: str | None, newest: str | None) -> Finding:
    if current == newest and not migrations.is_usable(current):
        return fail("migrations", f"at revision {current}, but a migration was interrupted.", "Run: cgk-tasks migrate")
    if current == newest:
        return ok("migrations", f"at revision {current}")
    if current is None:
        return fail("migrations", "The tables of cgk_tasks are missing.", "Run: cgk-tasks migrate")
    if migrations.is_usable(current) and not migrations.is_newer(current):
        return warn(
            "migrations",
            f"at revision {current}, which still has what processes of an earlier release need",
            "Once none of them runs any more: cgk-tasks migrate --finish",
        )
    if migrations.is_newer(current):
        return warn(
            "migrations",
            f"The database is at revision {current}, of a newer version of cgk_tasks; this one knows {newest}.",
            "After an upgrade was rolled back this is as it should be. Otherwise update this installation.",
        )
    return fail(
        "migrations",
        f"The database is at revision {current}, this version of cgk_tasks knows {newest}.",
        "Run: cgk-tasks migrate",
    )


def clock() -> Finding:
    with autocommit() as connection:
        before = datetime.now(UTC)
        theirs = fetch(connection, SQL["now"])[0]["now"]
        ours = before + (datetime.now(UTC) - before) / 2
    return judge_clock(abs(theirs - ours))


def judge_clock(difference: timedelta) -> Finding:
    """The record goes by PostgreSQL's clock, jobs and absolute times of senders by this machine's."""
    text = f"{difference.total_seconds():.3f} s between this machine and PostgreSQL"
    advice = "Run a time service (chrony, systemd-timesyncd) on both machines."
    if difference > CLOCK_FAILS:
        return fail("clock", text, advice)
    if difference > CLOCK_WARNS:
        return warn("clock", text, advice)
    return ok("clock", text)


def transactions() -> Finding:
    with autocommit() as connection:
        found = fetch(connection, SQL["oldest_transaction"])
    return judge_transaction(found[0] if found else None)


def judge_transaction(oldest: Row | None) -> Finding:
    """While it is open, whoever wants what it has locked waits, and rows that are gone cannot be cleared away."""
    if oldest is None or oldest["seconds"] < LONG_SECONDS:
        return ok("transactions", f"none is open for longer than {LONG_SECONDS:g} s")
    if oldest["gid"] is not None:
        what, ends = f"{oldest['gid']}, prepared by {oldest['application']},", f"ROLLBACK PREPARED '{oldest['gid']}'"
    else:
        what = f"{oldest['application']} (pid {oldest['pid']}, {oldest['state']})"
        ends = f"SELECT pg_terminate_backend({oldest['pid']})"
    return warn(
        "transactions",
        f"A transaction of {what} is open for {oldest['seconds']:.0f} s.",
        f"The leader's looks slow down, and what it has locked waits. If nobody needs it: {ends};",
    )
