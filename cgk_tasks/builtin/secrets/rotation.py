"""All secrets: encrypt them with the newest key, and say which ones the present keys cannot read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cgk_tasks.builtin.secrets.sealing import is_sealed, newest_prefix, seal, unseal
from cgk_tasks.errors import SecretUnreadableError
from cgk_tasks.sql.postgres import Row, autocommit, execute, fetch, statements

SQL = statements("secrets")

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Rotation:
    """rotated: secrets that had an older key. lifted: those that were plain. unreadable: left as they are."""

    rotated: int = 0
    lifted: int = 0
    unreadable: tuple[SecretUnreadableError, ...] = ()


def rotate_secrets(*, dry_run: bool = False) -> Rotation:
    """Encrypt everything with the newest key that is not. Safe to repeat, to interrupt, and while secrets change.

    dry_run: change nothing, and say what would be. Raises ConfigurationError without any key.
    """
    newest = newest_prefix()
    last: Row = {"place": "", "tenant_id": "", "id": ""}
    rotated = lifted = 0
    unreadable: list[SecretUnreadableError] = []
    while True:
        with autocommit() as connection:
            found = fetch(connection, SQL["outdated"], {**last, "newest": newest, "limit": _BATCH})
        if not found:
            return Rotation(rotated, lifted, tuple(unreadable))
        readable = []
        for row in found:
            try:
                readable.append(row | {"after": _sealed_anew(row)})
            except SecretUnreadableError as exc:
                unreadable.append(exc)
        if not dry_run:
            _store(readable)
        rotated += sum(is_sealed(row["value"]) for row in readable)
        lifted += sum(not is_sealed(row["value"]) for row in readable)
        last = {name: found[-1][name] for name in last}


def secret_name(place: str, row_id: str) -> str:
    """What a stored secret is bound to, beside its tenant."""
    return row_id if place == "tenant_setting" else webhook_secret_name(row_id)


def webhook_secret_name(endpoint_id: str) -> str:
    """Of an endpoint's secret and of the one before, so that the new one's arrival needs no key for the old one."""
    return f"webhook secret of {endpoint_id}"


def _sealed_anew(row: Row) -> str:
    tenant_id, name = row["tenant_id"], secret_name(row["place"], row["id"])
    return seal(unseal(row["value"], tenant_id=tenant_id, name=name), tenant_id=tenant_id, name=name)


def _store(rows: list[Row]) -> None:
    for place in sorted({row["place"] for row in rows}):
        of_place = [row for row in rows if row["place"] == place]
        values = {
            "tenant_id": [row["tenant_id"] for row in of_place], "id": [row["id"] for row in of_place],
            "before": [row["value"] for row in of_place], "after": [row["after"] for row in of_place],
        }  # fmt: skip
        with autocommit() as connection:
            execute(connection, SQL[f"replace_{place}"], values)
