"""Keys of the HTTP API: each is one tenant's, and may do what its scopes say.

    cgk_0a1b2c3d4e5f_Zm9v…

The first part, up to the second underscore, is the key's prefix, by which it is found and shown. The rest is its
secret: 256 random bits, of which the database has a digest alone. SHA-256 is enough for that: what is random cannot be
found by trying, as a password could, and it costs each request a microsecond.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import psycopg
from pydantic import SecretStr

from cgk_tasks.api_keys.scopes import checked_scopes
from cgk_tasks.errors import (
    LONGEST_WAIT_SECONDS,
    InvalidOptionError,
    RequestRefusedError,
    UnknownKeyError,
    as_seconds,
)
from cgk_tasks.flow.changes import Change
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, explain, fetch, statements, transaction
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.audit import actor
from cgk_tasks.tenancy.platform import is_platform
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL = statements("gateway")

KeyState = Literal["active", "expired", "revoked"]

_FORM: Final = re.compile(r"(cgk_[0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LONGEST_NAME: Final = 100
_NOBODY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret; `secret` is the whole key right after it was made, and never again."""

    id: str
    tenant_id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    secret: SecretStr | None = field(default=None, repr=False)

    @property
    def state(self) -> KeyState:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= database_now() else "active"


def create_key(
    tenant_id: str,
    scopes: Sequence[str],
    *,
    name: str = "",
    expires: float | timedelta | None = None,
    by: str = "",
    reason: str = "",
) -> ApiKey:
    """Make a key for a tenant. Its `secret` is shown here alone.

    scopes: `send:` with an event's name, `order.*` or `*`; `read`: runs, logs, schedules, limits and usage, and to
    watch runs; `operate`: cancel, replay and signal runs. name: for people. expires: after so many seconds, or a
    timedelta; None: never. Raises InvalidOptionError, UnknownTenantError, TenantContextError, StoreError.

        key = create_key("acme", ["send:order.*", "read"], name="shop", expires=timedelta(days=90))
        print(key.secret.get_secret_value())
    """
    refuse_in_context("API keys", tenant_id)
    if is_platform(registry.require(tenant_id)):
        raise InvalidOptionError("tenant_id", f"{tenant_id!r} stands for the platform, which sees all tenants.")
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or (name and not name.isprintable()):
        raise InvalidOptionError("name", f"must be a text of at most {_LONGEST_NAME} printable characters")
    wanted, until = checked_scopes(scopes), _until(expires)
    try:
        with transaction() as connection:
            made = _insert(connection, tenant_id, name, wanted, until, by)
            Change(by, reason).note(connection, "create API key", made.id, {}, _said(made), tenant_id)
    except psycopg.Error as exc:
        raise explain(exc) from exc
    return made


def list_keys(tenant_id: str | None = None) -> list[ApiKey]:
    """The keys of one tenant or of all, without their secrets. Raises TenantContextError, StoreError."""
    refuse_in_context("API keys", tenant_id)
    try:
        with autocommit() as connection:
            return [_key(row) for row in fetch(connection, SQL["list_keys"], {"tenant_id": tenant_id})]
    except psycopg.Error as exc:
        raise explain(exc) from exc


def rotate_key(
    key_id: str,
    *,
    keep_old: float | timedelta = timedelta(hours=24),
    expires: float | timedelta | None = None,
    by: str = "",
    reason: str = "",
) -> ApiKey:
    """Make a key that takes the place of another: for the same tenant, with the same scopes and name.

    keep_old: how long the old one counts beside it, in seconds or as a timedelta; 0 ends it at once. expires: as of
    `create_key`; None: the new key lives as long as the old one was to. Raises UnknownKeyError, StoreError,
    InvalidOptionError (also for a key that was revoked).
    """
    seconds = _seconds("keep_old", keep_old, least=0.0)
    try:
        with transaction() as connection:
            old = _locked(connection, key_id)
            if old.revoked_at is not None:
                raise InvalidOptionError("key_id", f"{old.id} was revoked.", hint="Make a new key.")
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            made = _insert(
                connection, old.tenant_id, old.name, list(old.scopes), _until(lifetime if expires is None else expires),
                by,
            )  # fmt: skip
            execute(connection, SQL["end_key"], {"id": old.id, "seconds": seconds})
            Change(by, reason).note(connection, "rotate API key", old.id, _said(old), _said(made), old.tenant_id)
    except psycopg.Error as exc:
        raise explain(exc) from exc
    return made


def revoke_key(key_id: str, *, by: str = "", reason: str = "") -> ApiKey:
    """End a key at once; safe to repeat. Raises UnknownKeyError, TenantContextError, StoreError."""
    try:
        with transaction() as connection:
            old = _locked(connection, key_id)
            rows = fetch(connection, SQL["revoke_key"], {"id": old.id})
            if not rows:
                return old
            revoked = _key(rows[0])
            Change(by, reason).note(connection, "revoke API key", old.id, _said(old), _said(revoked), old.tenant_id)
    except psycopg.Error as exc:
        raise explain(exc) from exc
    return revoked


def authenticate(token: str) -> ApiKey:
    """The key that a request carries. Raises RequestRefusedError, 401, and psycopg.Error."""
    form = _FORM.fullmatch(token)
    if form is None:
        raise _unauthorized("This is not the form of a key.")
    with autocommit() as connection:
        rows = fetch(connection, SQL["find_key"], {"prefix": form[1]})
        row = rows[0] if rows else None
        if not hmac.compare_digest(_digest(token), row["secret_hash"] if row else _NOBODY) or row is None:
            raise _unauthorized("There is no such key.")
        if row["is_over"]:
            raise _unauthorized("This key was revoked, or its time is over.")
        if not row["was_seen"]:
            execute(connection, SQL["note_use"], {"id": row["id"]})
    return _key(row)


def require_active(prefix: str) -> None:
    """Raises RequestRefusedError, 401, where the key of this prefix is over, and so what it has made; psycopg.Error."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["find_key"], {"prefix": prefix})
    if not rows or rows[0]["is_over"]:
        raise _unauthorized("The key that has made this token was revoked, or its time is over.")


def _insert(
    connection: Connection, tenant_id: str, name: str, scopes: list[str], until: datetime | None, by: str
) -> ApiKey:
    prefix = f"cgk_{secrets.token_hex(6)}"
    token = f"{prefix}_{secrets.token_urlsafe(32)}"
    values = {
        "id": new_run_id(), "tenant_id": tenant_id, "name": name, "prefix": prefix, "secret_hash": _digest(token),
        "scopes": scopes, "by": by or actor(), "expires_at": until,
    }  # fmt: skip
    return _key(fetch(connection, SQL["insert_key"], values)[0], SecretStr(token))


def _locked(connection: Connection, key_id: str) -> ApiKey:
    rows = fetch(connection, SQL["lock_key"], {"id": key_id}) if _UUID.fullmatch(str(key_id)) else []
    if not rows:
        raise UnknownKeyError(str(key_id))
    key = _key(rows[0])
    refuse_in_context("API keys", key.tenant_id)
    return key


def _key(row: Row, secret: SecretStr | None = None) -> ApiKey:
    values: dict[str, Any] = {name: row[name] for name in ApiKey.__slots__ if name in row}
    return ApiKey(**values | {"scopes": tuple(row["scopes"])}, secret=secret)


def _said(key: ApiKey) -> dict[str, Any]:
    """What the audit keeps of a key."""
    times = {"expires_at": key.expires_at, "revoked_at": key.revoked_at}
    said = {name: None if moment is None else moment.isoformat() for name, moment in times.items()}
    return said | {"prefix": key.prefix, "name": key.name, "scopes": list(key.scopes)}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _until(expires: float | timedelta | None) -> datetime | None:
    if expires is None:
        return None
    return database_now() + timedelta(seconds=_seconds("expires", expires, least=1.0))


def _seconds(option: str, value: object, least: float) -> float:
    if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        seconds = as_seconds(value)
        if least <= seconds <= LONGEST_WAIT_SECONDS:
            return seconds
    raise InvalidOptionError(option, f"must be at least {least:g} s and at most a hundred years, not {value!r}")


def _unauthorized(text: str) -> RequestRefusedError:
    return RequestRefusedError(text, "UNAUTHORIZED", 401, hint="Send the header Authorization: Bearer KEY.")
