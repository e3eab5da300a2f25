"""Whether what is stored encrypted can be read with the keys of this process."""

from __future__ import annotations

from collections.abc import Sequence

from cgk_tasks.builtin.secrets.sealing import key_ids
from cgk_tasks.cli.doctor.findings import Finding, fail, ok, warn
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements

SQL = statements("secrets")


def check() -> Finding:
    """Needs a database that is migrated."""
    with autocommit() as connection:
        return judge(fetch(connection, SQL["count_secrets"]), key_ids())


def judge(stored: Sequence[Row], keys: Sequence[str]) -> Finding:
    """stored: secrets and tenants by the key that they need, None for plain ones. keys: those that are here."""
    closed = [row for row in stored if row["key_id"] is not None and row["key_id"] not in keys]
    if closed:
        which = ", ".join(f"{_many(row)} with the key {row['key_id']}" for row in closed)
        return fail(
            "secrets",
            f"Stored secrets cannot be read here: {which}.",
            f"CGK_ENCRYPTION_KEYS has {', '.join(keys) or 'none'}. Add the missing keys after the newest one, "
            "wherever workers "
            "run. If a key is lost, set its secrets again.",
        )
    plain = [row for row in stored if row["key_id"] is None]
    if plain:
        first = "" if keys else "Set CGK_ENCRYPTION_KEYS (make a key: cgk-tasks secrets key). "
        return warn("secrets", f"Stored and not encrypted: {_many(plain[0])}.", f"{first}Run: cgk-tasks secrets rotate")
    older = sum(row["secrets"] for row in stored if row["key_id"] != keys[0])
    still = f", {older} with an older key: cgk-tasks secrets rotate" if older else ""
    return ok("secrets", f"{sum(row['secrets'] for row in stored)} stored, all can be read here{still}")


def _many(row: Row) -> str:
    secrets, tenants = row["secrets"], row["tenants"]
    return f"{secrets} secret{'s' * (secrets != 1)} of {tenants} tenant{'s' * (tenants != 1)}"
